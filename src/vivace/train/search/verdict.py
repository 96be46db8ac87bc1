"""Whether one trained model is better than another: paired losses on validation conversations neither learned from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.config.train import TrainSettings
from vivace.domain import Example, Model, Progress
from vivace.errors import DataError
from vivace.models import ChatTokenizer
from vivace.stats import bootstrap_statistic, mean_of_rows, paired_bootstrap_rows, paired_permutation_rows
from vivace.store import read_examples
from vivace.train.batches.rows import IGNORED, Row, encode_examples
from vivace.train.quiet import quiet_libraries
from vivace.train.tune import validation_sample

MIN_UNSEEN = 16


def compare_models(
    dataset: Path, base: Model, models: Sequence[Model], system: str, settings: TrainSettings, progress: Progress
) -> dict[str, Any]:
    """Return by how much the second model's loss per learned token is lower than the first's, with its interval.

    Conversations that validated the training runs chose among settings and checkpoints; where enough others are left,
    only those are compared on. Positive: the second is better.
    """
    return compare_seeds(dataset, base, [models], system, [settings], progress)


def compare_on(
    sets: Sequence[Sequence[Example]],
    base: Model,
    models: Sequence[Model],
    system: str,
    settings: TrainSettings,
    progress: Progress,
) -> list[dict[str, Any] | None]:
    """Return what `compare_models` does for each set of examples, None for an empty one; each model is opened once.

    `accuracy_gain` is the difference in the share of learned tokens that are guessed right.
    """
    rows = encode_sets(sets, base, system, settings)
    everything = [row for part in rows for row in part]
    figures = []
    for model in models if everything else ():
        with progress.task(f"Measuring {len(everything):,} held-out conversations"), quiet_libraries():
            figures.append(row_figures(model, everything))
    found: list[dict[str, Any] | None] = []
    at = 0
    for part in rows:
        before, after = (side[at : at + len(part)] for side in figures) if part else ([], [])
        found.append(_compared(before, after, part, settings.seed) if part else None)
        at += len(part)
    return found


def _some(found: dict[str, Any] | None) -> dict[str, Any]:
    if found is None:
        raise DataError("The dataset has no validation example to compare on.", "Add conversations to [data].")
    return found


def encode_sets(
    sets: Sequence[Sequence[Example]], base: Model, system: str, settings: TrainSettings
) -> list[tuple[Row, ...]]:
    """Return the rows of sets of examples as training encodes them; of an empty set, none."""
    tokenizer = ChatTokenizer.open(base.path)
    longest = min(settings.max_length, tokenizer.context_length)
    return [
        encode_examples(tokenizer, examples, system, longest, split="validation").rows if examples else ()
        for examples in sets
    ]


def _compared(
    before: Sequence[tuple[float, int]], after: Sequence[tuple[float, int]], rows: Sequence[Row], seed: int
) -> dict[str, Any]:
    learned = [row.learned for row in rows]
    losses, wrong = ([[figure[which] for figure in side] for side in (before, after)] for which in (0, 1))
    found = paired_gain(losses[0], losses[1], learned, seed=seed)
    accuracy = paired_gain(wrong[0], wrong[1], learned, seed=seed)
    return (
        {"examples": len(rows)}
        | found
        | {
            "token_accuracy": [1 - share for share in accuracy["loss"]],
            "accuracy_gain": accuracy["gain"],
            "accuracy_low": accuracy["low"],
            "accuracy_high": accuracy["high"],
        }
    )


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
        "worse": interval.high < 0,
    }


def compare_seeds(
    dataset: Path,
    base: Model,
    models: Sequence[Sequence[Model]],
    system: str,
    settings: Sequence[TrainSettings],
    progress: Progress,
) -> dict[str, Any]:
    """Return what `compare_models` does for pairs of models, one pair a seed of training; `settings` are all of theirs.

    With several seeds the interval draws seeds and conversations (the pigeonhole bootstrap of Owen 2007,
    https://arxiv.org/abs/0712.1111), `gains` are those of each seed, and the second is better only if it is with each.
    """
    examples, unseen = held_out(dataset, *settings)
    if len(models) == 1:
        (found,) = compare_on([examples], base, models[0], system, settings[0], progress)
        return {"unseen": unseen} | _some(found)
    (rows,) = encode_sets([examples], base, system, settings[0])
    if not rows:
        return _some(None)
    figures: list[list[list[tuple[float, int]]]] = []
    with progress.task(f"Measuring {len(rows):,} held-out conversations", total=2 * len(models)) as task:
        for pair in models:
            figures.append([])
            for model in pair:
                with quiet_libraries():
                    figures[-1].append(row_figures(model, rows))
                task.advance()
    table = np.array(figures, dtype=np.float64)  # (seeds, 2, rows, loss and wrong guesses)
    return {"unseen": unseen} | seeds_gain(table, [row.learned for row in rows], seed=settings[0].seed)


def seeds_gain(table: NDArray[np.float64], learned: Sequence[int], *, seed: int) -> dict[str, Any]:
    """Return the comparison of figures of shape (seeds, 2, rows, 2): summed loss and wrong guesses of each row."""
    tokens = np.array(learned, dtype=np.float64)
    count = len(table)
    differences = table[:, 0, :, 0] - table[:, 1, :, 0]  # (seeds, rows)
    random = np.random.default_rng(seed)

    def gain(rows: NDArray[np.int64]) -> float:
        drawn = differences[random.integers(0, count, count)]
        return float(drawn[:, rows].sum() / (count * tokens[rows].sum()))

    interval = bootstrap_statistic(len(learned), gain, seed=seed)
    gains = (differences.sum(axis=1) / tokens.sum()).tolist()
    means = table.sum(axis=(0, 2)) / (count * tokens.sum())  # (2, loss and share of wrong guesses)
    return {
        "examples": len(learned),
        "loss": means[:, 0].tolist(),
        "token_accuracy": (1 - means[:, 1]).tolist(),
        "gain": float(means[0, 0] - means[1, 0]),
        "low": interval.low,
        "high": interval.high,
        "gains": gains,
        "better": interval.low > 0 and min(gains) > 0,
        "worse": interval.high < 0 and max(gains) < 0,
    }


def held_out(dataset: Path, *settings: TrainSettings) -> tuple[list[Example], bool]:
    """Return the validation examples to compare on, and whether no training with these settings looked at them."""
    everything = list(read_examples(dataset, "validation"))
    used = {example.id for each in settings for example in validation_sample(everything, each)}
    unseen = [example for example in everything if example.id not in used]
    return (unseen, True) if len(unseen) >= MIN_UNSEEN else (everything, False)


def row_losses(model: Model, rows: Sequence[Row]) -> list[float]:
    """Return each row's summed loss over its learned tokens, in nats, in float32."""
    return [loss for loss, _wrong in row_figures(model, rows)]


def row_figures(model: Model, rows: Sequence[Row]) -> list[tuple[float, int]]:
    """Return each row's summed loss over its learned tokens, and how many of them are guessed wrong."""
    import torch

    from vivace.models import load_causal_lm, load_with_adapter
    from vivace.train.machine import device

    on = device()
    network: Any = (
        load_with_adapter(model.path, model.base) if model.format == "adapter" else load_causal_lm(model.path)
    )
    network.to(on).train(False)
    figures = []
    for row in rows:
        with torch.no_grad():
            # Learned tokens of a prompt, if the model has some, stand before the row: its last logits count.
            logits = network(input_ids=torch.tensor([row.ids], device=on)).logits[0, -len(row.ids) : -1]
        labels = torch.tensor(row.labels[1:], device=on)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="sum")
        figures.append((float(loss), int(((logits.argmax(-1) != labels) & (labels != IGNORED)).sum())))
    return figures
