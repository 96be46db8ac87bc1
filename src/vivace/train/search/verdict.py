"""Whether one trained model is better than another: paired losses on validation conversations neither learned from."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vivace.config.train import TrainSettings
from vivace.domain import Example, Model, Progress
from vivace.models import ChatTokenizer
from vivace.stats import mean_of_rows, paired_bootstrap_rows, paired_permutation_rows
from vivace.store import read_examples
from vivace.train.batches.rows import IGNORED, Row, encode_examples
from vivace.train.quiet import quiet_libraries

MIN_UNSEEN = 16


def compare_models(
    dataset: Path, base: Model, models: Sequence[Model], system: str, settings: TrainSettings, progress: Progress
) -> dict[str, Any]:
    """Return by how much the second model's loss per learned token is lower than the first's, with its interval.

    Conversations that validated the training runs chose among settings and checkpoints; where enough others are left,
    only those are compared on. Positive: the second is better.
    """
    examples, unseen = held_out(dataset, settings)
    tokenizer = ChatTokenizer.open(base.path)
    longest = min(settings.max_length, tokenizer.context_length)
    rows = encode_examples(tokenizer, examples, system, longest, split="validation").rows
    losses = []
    for model in models:
        with progress.task(f"Measuring {len(rows):,} validation conversations"), quiet_libraries():
            losses.append(row_losses(model, rows))
    found = paired_gain(losses[0], losses[1], [row.learned for row in rows], seed=settings.seed)
    return {"examples": len(rows), "unseen": unseen} | found


def paired_gain(
    first: Sequence[float], second: Sequence[float], learned: Sequence[int], *, seed: int
) -> dict[str, Any]:
    """Return the difference in loss per token of rows' summed losses; better only if its interval is above 0."""
    before, after = ([*zip(side, learned, strict=True)] for side in (first, second))
    interval = paired_bootstrap_rows(before, after, mean_of_rows, seed=seed)
    means = [sum(side) / sum(learned) for side in (first, second)]
    return {
        "loss": means,
        "gain": means[0] - means[1],
        "low": interval.low,
        "high": interval.high,
        "p_value": paired_permutation_rows(before, after, mean_of_rows, seed=seed),
        "better": interval.low > 0,
    }


def held_out(dataset: Path, settings: TrainSettings) -> tuple[list[Example], bool]:
    """Return the validation examples to compare on, and whether training never looked at them."""
    everything = list(read_examples(dataset, "validation"))
    used = {example.id for example in validation_sample(everything, settings)}
    unseen = [example for example in everything if example.id not in used]
    return (unseen, True) if len(unseen) >= MIN_UNSEEN else (everything, False)


def validation_sample(examples: Sequence[Example], settings: TrainSettings) -> list[Example]:
    """Return the examples that `tune` validates on."""
    order = sorted(examples, key=lambda item: hashlib.sha256(f"{settings.seed} {item.id}".encode()).digest())
    return order[: settings.max_validation_examples]


def row_losses(model: Model, rows: Sequence[Row]) -> list[float]:
    """Return each row's summed loss over its learned tokens, in nats, in float32."""
    import torch

    from vivace.models import load_causal_lm, load_with_adapter
    from vivace.train.machine import device

    on = device()
    network: Any = (
        load_with_adapter(model.path, model.base) if model.format == "adapter" else load_causal_lm(model.path)
    )
    network.to(on).train(False)
    losses = []
    for row in rows:
        with torch.no_grad():
            # Learned tokens of a prompt, if the model has some, stand before the row: its last logits count.
            logits = network(input_ids=torch.tensor([row.ids], device=on)).logits[0, -len(row.ids) : -1]
        labels = torch.tensor(row.labels[1:], device=on)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
        losses.append(float(loss))
    return losses
