"""Leave whole layers out of a decoder."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from vivace.compress.prune.decoder import Decoder, open_decoder
from vivace.compress.prune.importance import LayerNumbers, losses_without_each
from vivace.compress.prune.sample import Batch, Sample, loss_of
from vivace.domain import Progress, SilentProgress, Task
from vivace.errors import ConfigError
from vivace.models.depth import keep_layers
from vivace.store.files import append_line, read_journal

LayerMethod = Literal["loss", "angular", "influence"]


def kept_count(share: float, layers: int) -> int:
    """Return how many of `layers` a share keeps: the nearest number, at least one."""
    return max(1, min(layers, round(share * layers)))


def choose_layers(
    decoder: Decoder,
    batches: Sequence[Batch],
    keep: int,
    method: LayerMethod,
    numbers: LayerNumbers | None = None,
    *,
    per_round: int = 1,
    journal: Path | None = None,
    task: Task | None = None,
) -> tuple[list[int], list[dict[str, Any]]]:
    """Return which layers stay, in order, and the rounds in which the others went.

    `loss` removes the `per_round` layers that the domain loss misses least and measures again, since what a layer is
    worth depends on the others. `angular` removes the one block that turns its input least (Gromov et al. 2024,
    arXiv:2403.17887), `influence` the layers that turn it least one by one (Men et al. 2024, arXiv:2403.03853);
    these two read `numbers`. Rounds are noted in `journal`; those that are there are not measured again.
    """
    count = len(decoder.layers)
    if method == "loss":
        return _greedy(decoder, batches, keep, per_round, numbers, journal, task)
    if numbers is None:
        raise ValueError(f"{method} needs the layers' numbers")
    if method == "angular":
        size = count - keep
        start = int(np.argmin(numbers.angular[size - 1])) if size else 0
        gone = list(range(start, start + size))
    else:
        gone = sorted(np.argsort(numbers.influence, kind="stable")[: count - keep].tolist())
    return [layer for layer in range(count) if layer not in gone], [{"removed": gone}] if gone else []


def _greedy(
    decoder: Decoder,
    batches: Sequence[Batch],
    keep: int,
    per_round: int,
    numbers: LayerNumbers | None,
    journal: Path | None,
    task: Task | None,
) -> tuple[list[int], list[dict[str, Any]]]:
    count = len(decoder.layers)
    rounds = [json.loads(line) for line in read_journal(journal)] if journal is not None else []
    alive = [layer for layer in range(count) if not any(layer in told["removed"] for told in rounds)]
    if task is not None:
        task.advance(len(rounds))
    while len(alive) > keep:
        if numbers is not None and len(alive) == count:
            before, losses = numbers.loss, dict(enumerate(numbers.loss_without))
        else:
            full, without = losses_without_each(decoder, batches, alive, task)
            before, losses = loss_of(full), {layer: loss_of(rows) for layer, rows in without.items()}
        gone = sorted(alive, key=lambda layer: (losses[layer], -layer))[: min(per_round, len(alive) - keep)]
        told = {str(layer): round(losses[layer], 6) for layer in alive}
        rounds.append({"removed": sorted(gone), "loss_before": round(before, 6), "loss_without": told})
        if journal is not None:
            append_line(journal, json.dumps(rounds[-1]).encode())
        alive = [layer for layer in alive if layer not in gone]
        if task is not None:
            task.note(f"without {', '.join(map(str, sorted(set(range(count)) - set(alive))))}")
    return alive, rounds


def prune_layers(
    folder: Path,
    out: Path,
    sample: Sample,
    *,
    keep: int | Sequence[int] | None = None,
    share: float | None = None,
    method: LayerMethod = "loss",
    per_round: int = 1,
    progress: Progress | None = None,
) -> list[int]:
    """Write a folder with fewer layers to `out` and return which were kept.

    `keep` is how many or which ones, `share` the part of them; the folder loads in transformers as it is.
    """
    from vivace.compress.prune.importance import layer_numbers

    if (keep is None) == (share is None):
        raise ConfigError("Say either how many layers to keep or which share of them.")
    decoder = open_decoder(folder)
    count = len(decoder.layers)
    if keep is not None and not isinstance(keep, int):
        kept = list(keep)
    else:
        wanted = kept_count(share, count) if keep is None and share is not None else int(keep or 0)
        if not 1 <= wanted <= count:
            raise ConfigError(f"{wanted} of {count} layers cannot be kept.")
        shown = progress or SilentProgress()
        with shown.task("Choosing layers", total=max(1, count - wanted)) as task:
            numbers = None if method == "loss" else layer_numbers(decoder, sample.few)
            kept, _ = choose_layers(decoder, sample.few, wanted, method, numbers, per_round=per_round, task=task)
    keep_layers(decoder.model, kept)
    decoder.save(folder, out)
    return kept
