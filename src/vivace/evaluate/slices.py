"""Where a candidate is weak, and where it got worse: quality by label, turn and length of the reference."""

from collections.abc import Iterator, Sequence

import numpy as np
from msgspec import Struct

from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Interval, Score
from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import METRICS, Metric, whole_range
from vivace.stats import Aggregate, holm, paired_bootstrap_rows, paired_permutation_rows
from vivace.text import normalize_words

SLICED_METRICS = ("token_f1", "rouge_l")
TURN = "turn"
_THIRDS = ("short", "medium", "long")
_LAST_TURN = 3
SWAPS = 5
"""Random swaps of a test for each resample of an interval: its smallest p-value must survive a hundred corrections."""
FEWEST = 5
"""Examples of a slice that an interval is told of: of two examples it covers the truth half the time."""


class Slice(Struct, frozen=True):
    """The scores of the examples that share a value of `field` (a label, `turn` or `reference_length`)."""

    field: str
    value: str
    count: int
    scores: tuple[Score, ...]


class SliceChange(Struct, frozen=True):
    """The change of a metric in a slice, positive where it is better; `p_adjusted` is Holm's over all slices.

    `verdict` is `breaks` where the slice is worse beyond chance after that correction, `suspect` where only its own
    interval says so, `gains` where it is better beyond chance, `holds` otherwise, and `few` where it has too few
    examples to tell.
    """

    field: str
    value: str
    count: int
    change: float | None
    interval: Interval
    p_adjusted: float
    verdict: str


def oriented(metric: Metric) -> Aggregate:
    """Return the metric's aggregate, turned so that more is better."""
    return metric.aggregate if metric.higher_is_better else lambda sums: -metric.aggregate(sums)


def slice_scores(answers: Sequence[Answer], settings: EvaluateSettings) -> tuple[Slice, ...]:
    """Return the scores of every slice of the answers that there is a text to compare with."""
    metrics: list[Metric] = [METRICS.load(name) for name in SLICED_METRICS]
    scored = metrics[0].scored(answers)
    return tuple(_slice(*part, metrics, settings) for part in parts(scored, settings.slice_by))


def parts(answers: Sequence[Answer], fields: Sequence[str]) -> Iterator[tuple[str, str, list[Answer]]]:
    """Yield (field, value, answers): by each field that examples differ in, then by length of the reference."""
    for field in fields:
        found: dict[str, list[Answer]] = {}
        for answer in answers:
            value = _turn(answer) if field == TURN else answer.metadata.get(field)
            if value is not None:
                found.setdefault(str(value), []).append(answer)
        if len(found) > 1:
            for value in sorted(found):
                yield field, value, found[value]
    for value, part in length_thirds(answers):
        yield "reference_length", value, part


def length_thirds(answers: Sequence[Answer]) -> list[tuple[str, list[Answer]]]:
    """Return the answers by length of their reference; equal lengths stay together, so a third may be absent."""
    if not answers:
        return []
    lengths = np.array([len(normalize_words(answer.reference)) for answer in answers])
    places = np.searchsorted(np.quantile(lengths, [1 / 3, 2 / 3]), lengths, side="left")
    thirds = []
    for place, name in enumerate(_THIRDS):
        inside = np.flatnonzero(places == place)
        if len(inside):
            low, high = int(lengths[inside].min()), int(lengths[inside].max())
            thirds.append((f"{name} ({low} to {high} words)", [answers[int(each)] for each in inside]))
    return thirds


def slice_changes(
    ours: Sequence[Answer], theirs: Sequence[Answer], metric: Metric, settings: EvaluateSettings
) -> tuple[SliceChange, ...]:
    """Return how `metric` changes from `theirs` to `ours` in every slice of the same examples."""
    before = {answer.id: answer for answer in metric.scored(theirs)}
    ours = [answer for answer in metric.scored(ours) if answer.id in before]
    found: list[tuple[str, str, int, tuple[float, Interval, float] | None]] = []
    for field, value, part in parts(ours, settings.slice_by):
        measured = None
        if len(part) >= FEWEST:
            measured = _change(metric, part, [before[answer.id] for answer in part], settings)
        found.append((field, value, len(part), measured))
    adjusted = iter(holm([measured[2] for *_, measured in found if measured is not None]))
    changes = []
    for field, value, count, measured in found:
        if measured is None:
            unknown = Interval(-1.0, 1.0, settings.confidence)
            changes.append(SliceChange(field, value, count, None, unknown, 1.0, "few"))
            continue
        change, interval, _p_value = measured
        p_adjusted = next(adjusted)
        verdict = "holds"
        if p_adjusted < 1 - settings.confidence and change:
            verdict = "breaks" if change < 0 else "gains"
        elif interval.high < 0:
            verdict = "suspect"
        changes.append(SliceChange(field, value, count, change, interval, p_adjusted, verdict))
    return tuple(changes)


def _change(
    metric: Metric, ours: Sequence[Answer], theirs: Sequence[Answer], settings: EvaluateSettings
) -> tuple[float, Interval, float]:
    rows, others = metric.rows(ours), metric.rows(theirs)
    seed, resamples = settings.seed, settings.resamples
    first, second = (float(oriented(metric)(table.sum(axis=0)[None])[0]) for table in (rows, others))
    interval = paired_bootstrap_rows(
        rows, others, oriented(metric), level=settings.confidence, resamples=resamples, seed=seed
    )
    p_value = paired_permutation_rows(rows, others, oriented(metric), resamples=SWAPS * resamples, seed=seed)
    return first - second, interval, p_value


def _turn(answer: Answer) -> str:
    """Return which of the user's turns is answered."""
    turn = sum(message.role == "user" for message in answer.prompt)
    return str(turn) if turn < _LAST_TURN else f"{_LAST_TURN} or later"


def _slice(
    field: str, value: str, answers: Sequence[Answer], metrics: Sequence[Metric], settings: EvaluateSettings
) -> Slice:
    scores = []
    for metric in metrics:
        score = metric.score(
            metric.rows(answers), level=settings.confidence, resamples=settings.resamples, seed=settings.seed
        )
        scores.append(score if len(answers) >= FEWEST else whole_range(score))
    return Slice(field, value, len(answers), tuple(scores))
