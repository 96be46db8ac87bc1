"""Where a candidate is weak: quality by intent and by length of the reference."""

from collections.abc import Sequence

import numpy as np
from msgspec import Struct

from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Score
from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import METRICS, Metric, whole_range
from vivace.text import normalize_words

SLICED_METRICS = ("token_f1", "rouge_l")
_THIRDS = ("short", "medium", "long")
_FEWEST = 5  # below it a bootstrap interval is far too short: of two examples it covers the truth half the time


class Slice(Struct, frozen=True):
    """The scores of the examples that share a value of `field` (`intent` or `reference_length`)."""

    field: str
    value: str
    count: int
    scores: tuple[Score, ...]


def slice_scores(answers: Sequence[Answer], settings: EvaluateSettings) -> tuple[Slice, ...]:
    """Return the slices by intent, where examples have one, and by thirds of the reference's length in words."""
    metrics: list[Metric] = [METRICS.load(name) for name in SLICED_METRICS]
    by_intent: dict[str, list[Answer]] = {}
    for answer in answers:
        if answer.metadata.get("intent") is not None:
            by_intent.setdefault(str(answer.metadata["intent"]), []).append(answer)
    slices = [_slice("intent", value, by_intent[value], metrics, settings) for value in sorted(by_intent)]
    slices += [_slice("reference_length", name, part, metrics, settings) for name, part in length_thirds(answers)]
    return tuple(slices)


def length_thirds(answers: Sequence[Answer]) -> list[tuple[str, list[Answer]]]:
    """Return the answers by length of their reference; equal lengths stay together, so a third may be absent."""
    lengths = np.array([len(normalize_words(answer.reference)) for answer in answers])
    places = np.searchsorted(np.quantile(lengths, [1 / 3, 2 / 3]), lengths, side="left")
    thirds = []
    for place, name in enumerate(_THIRDS):
        inside = np.flatnonzero(places == place)
        if len(inside):
            low, high = int(lengths[inside].min()), int(lengths[inside].max())
            thirds.append((f"{name} ({low} to {high} words)", [answers[int(each)] for each in inside]))
    return thirds


def _slice(
    field: str, value: str, answers: Sequence[Answer], metrics: Sequence[Metric], settings: EvaluateSettings
) -> Slice:
    scores = []
    for metric in metrics:
        score = metric.score(
            metric.rows(answers), level=settings.confidence, resamples=settings.resamples, seed=settings.seed
        )
        scores.append(score if len(answers) >= _FEWEST else whole_range(score))
    return Slice(field, value, len(answers), tuple(scores))
