"""What a smaller model keeps of a larger one's quality: as a whole, and in each slice, where a mean hides a hole."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from msgspec import Struct

from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Interval
from vivace.evaluate.answers import Answer
from vivace.evaluate.comparison import check_same_examples
from vivace.evaluate.metric import METRICS, Metric
from vivace.evaluate.report import EvaluationReport
from vivace.evaluate.slices import SliceChange, slice_changes
from vivace.stats import Floats, paired_bootstrap_rows, paired_permutation_rows

METRICS_KEPT = ("token_f1", "rouge_l")
SLICED_BY = "token_f1"
MARGIN = 0.01
"""A point of a metric between 0 and 1: what a model may lose and still be called as good."""


class Kept(Struct, frozen=True):
    """One metric of a model beside the reference's, on the same examples.

    `change` is the model's minus the reference's, `interval` is paired; `share` is their ratio. Bits per byte say how
    likely the references' texts are; there less is better.
    """

    metric: str
    value: float
    reference: float
    change: float
    interval: Interval
    p_value: float
    count: int
    higher_is_better: bool = True

    @property
    def share(self) -> float:
        """Which part of the reference's value is kept; all where there is nothing to keep."""
        return self.value / self.reference if self.reference else 1.0

    def as_good(self, margin: float = MARGIN) -> bool:
        """Tell whether the loss is below the margin even at the interval's worse end (non-inferiority)."""
        return (self.interval.low if self.higher_is_better else -self.interval.high) > -margin


class Retention(Struct, frozen=True):
    """All of it, for one model."""

    model: str
    reference: str
    whole: tuple[Kept, ...]
    slices: tuple[SliceChange, ...]

    def of(self, metric: str) -> Kept | None:
        """Return one metric; None where it was not measured."""
        return next((kept for kept in self.whole if kept.metric == metric), None)

    @property
    def broken(self) -> tuple[SliceChange, ...]:
        """The slices that break."""
        return tuple(part for part in self.slices if part.verdict == "breaks")


def retention(model: EvaluationReport, reference: EvaluationReport, settings: EvaluateSettings) -> Retention:
    """Compare two evaluations of the same examples; raises `DataError` where they are not the same."""
    check_same_examples(model, reference)
    ours, theirs = model.answers, reference.answers
    whole = []
    for name in METRICS_KEPT:
        metric: Metric = METRICS.load(name)
        whole.append(_kept(name, metric.rows(ours), metric.rows(theirs), metric.aggregate, settings))
    likely = [pair for pair in zip(ours, theirs, strict=True) if all(each.logprob is not None for each in pair)]
    if len(likely) > 1:
        rows = [_bits([pair[side] for pair in likely]) for side in (0, 1)]
        whole.append(_kept("bits_per_byte", rows[0], rows[1], _ratio, settings, higher_is_better=False))
    return Retention(
        model.facts.candidate,
        reference.facts.candidate,
        tuple(whole),
        slice_changes(ours, theirs, METRICS.load(SLICED_BY), settings),
    )


def _kept(
    name: str,
    ours: Floats,
    theirs: Floats,
    aggregate: Callable[[Floats], Floats],
    settings: EvaluateSettings,
    *,
    higher_is_better: bool = True,
) -> Kept:
    value, other = (float(aggregate(rows.sum(axis=0)[None])[0]) for rows in (ours, theirs))
    drawn = {"resamples": settings.resamples, "seed": settings.seed}
    interval = paired_bootstrap_rows(ours, theirs, aggregate, level=settings.confidence, **drawn)
    p_value = paired_permutation_rows(ours, theirs, aggregate, **drawn)
    return Kept(name, value, other, value - other, interval, p_value, len(ours), higher_is_better)


def _bits(answers: Sequence[Answer]) -> Floats:
    """Return rows (bits, bytes): they compare models that cut a text into other tokens, too."""
    pairs = [(-(answer.logprob or 0.0) / math.log(2), len(answer.reference.encode())) for answer in answers]
    return np.asarray(pairs, dtype=np.float64)


def _ratio(sums: Floats) -> Floats:
    bits: Floats = sums[:, 0] / np.maximum(sums[:, 1], 1)
    return bits
