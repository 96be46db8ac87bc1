"""Two candidates on the same examples: better, worse, as good or too few examples; where, and in which answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Comparison, Interval
from vivace.errors import DataError
from vivace.evaluate.answers import Answer
from vivace.evaluate.comparison import compare, every_metric
from vivace.evaluate.metric import Metric
from vivace.evaluate.report import EvaluationReport, load_report
from vivace.evaluate.slices import SliceChange, slice_changes
from vivace.stats import Floats, detectable_difference, needed_examples, proportion_interval, standard_error

SHOWN = 10
"""Answers that are told of as worse, and as better."""
STEPS = (1, 2, 5)
"""Differences, in units of `Scale.step`, of which it is told how many examples would show them."""

Outcome = Literal["better", "worse", "as good", "unproven"]


class Scale(Struct, frozen=True):
    """How a metric is told: shares (token F1) and what goes to 100 (BLEU) in points, the rest in units of its own.

    A value times `factor` is what is shown; `whole` is the length of the scale, and 1 where it has no end (loss).
    """

    unit: str
    factor: float
    whole: float
    step: float
    digits: int

    def told(self, value: float) -> str:
        """Return a change as it is shown."""
        return f"{value * self.factor:+.{self.digits}f}"


class Tally(Struct, frozen=True):
    """One metric, answer by answer.

    `effect` is the mean change over the standard deviation of the changes (Cohen's d of pairs). `superiority` is how
    often the candidate is the better of the two where they differ, with Wilson's interval.
    """

    metric: str
    better: int
    worse: int
    equal: int
    effect: float
    superiority: Interval | None


class Pair(Struct, frozen=True):
    """One example with both answers; `change` is the candidate's score minus the baseline's."""

    id: str
    question: str
    reference: str
    candidate: str
    baseline: str
    change: float


class Power(Struct, frozen=True):
    """What so many examples can show of a metric 8 times in 10, and how many a finer difference would need."""

    metric: str
    count: int
    detectable: float
    needed: dict[str, int]
    unit: str = "points"


class Difference(Struct, frozen=True):
    """Everything that tells a candidate from a baseline; `outcome` is that of `metric`, by `margin`.

    `as good` is non-inferiority: the worse end of the interval loses less than the margin. `unproven` says that
    neither a difference nor its absence is shown.
    """

    candidate: str
    baseline: str
    metric: str
    margin: float
    outcome: Outcome
    sentence: str
    comparisons: tuple[Comparison, ...]
    tallies: tuple[Tally, ...]
    slices: tuple[SliceChange, ...]
    regressions: tuple[Pair, ...]
    gains: tuple[Pair, ...]
    power: Power

    @property
    def broken(self) -> tuple[SliceChange, ...]:
        """The slices that are worse beyond chance."""
        return tuple(part for part in self.slices if part.verdict == "breaks")


def difference(
    candidate: Path | EvaluationReport,
    baseline: Path | EvaluationReport,
    settings: EvaluateSettings,
    metric: str = "token_f1",
    names: tuple[str, str] | None = None,
) -> Difference:
    """Tell two evaluations of the same examples apart; raises `DataError` where they are not the same.

    `names` are what to call them, if not as their evaluations do.
    """
    first, second = (load_report(side) if isinstance(side, Path) else side for side in (candidate, baseline))
    if names is not None:
        first, second = _renamed(first, names[0]), _renamed(second, names[1])
    comparisons = compare(first, second, settings)
    found = next((each for each in comparisons if each.metric == metric), None)
    if found is None:
        raise DataError(
            f"{first.facts.candidate} and {second.facts.candidate} cannot be compared in {metric}: it was not measured "
            "in both.",
            "Name another metric: " + ", ".join(each.metric for each in comparisons) + ".",
        )
    by_name = {each.name: each for each in every_metric(first)}
    chosen = by_name[metric]
    margin = settings.margin * scale_of(chosen).whole
    outcome = judge(found, margin)
    pairs = _changes(first, second, metric, higher_is_better=chosen.higher_is_better)
    power = _power(found, chosen)
    return Difference(
        first.facts.candidate,
        second.facts.candidate,
        metric,
        margin,
        outcome,
        _sentence(found, chosen, outcome, margin),
        tuple(comparisons),
        tuple(_tallies(first.answers, second.answers, [by_name[each.metric] for each in comparisons], settings)),
        slice_changes(first.answers, second.answers, chosen, settings),
        tuple(pair for pair in pairs[:SHOWN] if pair.change < 0),
        tuple(pair for pair in pairs[::-1][:SHOWN] if pair.change > 0),
        power,
    )


def scale_of(metric: Metric) -> Scale:
    """Return how a metric is told."""
    if not metric.unit:
        return Scale("points", factor=100.0, whole=1.0, step=1.0, digits=1)
    if metric.unit == "points":
        return Scale("points", factor=1.0, whole=100.0, step=1.0, digits=1)
    return Scale(metric.unit, factor=1.0, whole=1.0, step=0.01, digits=3)


def judge(comparison: Comparison, margin: float) -> Outcome:
    """Return what a comparison comes to where a loss under `margin` does not matter."""
    if comparison.outcome != "noise":
        return "better" if comparison.outcome == "better" else "worse"
    return "as good" if comparison.interval.low > -margin else "unproven"


def _sentence(found: Comparison, metric: Metric, outcome: Outcome, margin: float) -> str:
    scale = scale_of(metric)
    low, high = (scale.told(bound) for bound in (found.interval.low, found.interval.high))
    figures = (
        f"{scale.told(found.difference)} {scale.unit} of {found.metric} on {found.count} examples, "
        f"{found.interval.level:.0%} interval {low} to {high}, adjusted p {found.p_adjusted:.3g}"
    )
    pair = f"{found.candidate} is"
    limit = f"{margin * scale.factor:.3g} {scale.unit}"
    if outcome in ("better", "worse"):
        small = " by less than the margin" if outcome == "worse" and found.interval.low > -margin else ""
        return f"{pair} {outcome} than {found.baseline}{small}: {figures}."
    if outcome == "as good":
        return f"{pair} as good as {found.baseline}, within {limit}: {figures}."
    enough = needed_examples(standard_error(found.interval), found.count, margin, level=found.interval.level)
    return (
        f"Neither is shown to be better, nor {found.candidate} to be as good as {found.baseline} within {limit}: "
        f"{figures}. {enough:,} examples would tell."
    )


def _tallies(
    ours: Sequence[Answer], theirs: Sequence[Answer], metrics: Sequence[Metric], settings: EvaluateSettings
) -> list[Tally]:
    before = {answer.id: answer for answer in theirs}
    tallies = []
    for metric in metrics:
        pairs = [(a, b) for a in ours if (b := before[a.id]) and metric.name in a.scores and metric.name in b.scores]
        if not metric.per_example or not pairs:
            continue
        sign = 1 if metric.higher_is_better else -1
        changes = sign * np.array([a.scores[metric.name] - b.scores[metric.name] for a, b in pairs])
        tallies.append(_tally(metric.name, changes, settings.confidence))
    return tallies


def _tally(metric: str, changes: Floats, level: float) -> Tally:
    better, worse = int((changes > 0).sum()), int((changes < 0).sum())
    spread = float(changes.std(ddof=1)) if len(changes) > 1 else 0.0
    superiority = proportion_interval(better, better + worse, level=level) if better + worse else None
    effect = float(changes.mean()) / spread if spread else 0.0
    return Tally(metric, better, worse, len(changes) - better - worse, effect, superiority)


def _changes(first: EvaluationReport, second: EvaluationReport, metric: str, *, higher_is_better: bool) -> list[Pair]:
    """Return the examples by change of their score, worst first; none for a metric of the whole corpus."""
    before = {answer.id: answer for answer in second.answers}
    pairs = []
    for answer in first.answers:
        other = before[answer.id]
        if metric in answer.scores and metric in other.scores:
            change = answer.scores[metric] - other.scores[metric]
            texts = (answer.error or answer.answer, other.error or other.answer)
            change = change if higher_is_better else -change
            pairs.append(Pair(answer.id, answer.question, answer.reference, *texts, change))
    return sorted(pairs, key=lambda pair: (pair.change, pair.id))


def _power(found: Comparison, metric: Metric) -> Power:
    error, level = standard_error(found.interval), found.interval.level
    scale = scale_of(metric)
    needed = {
        f"{step * scale.step:g}": needed_examples(error * scale.factor, found.count, step * scale.step, level=level)
        if error
        else found.count
        for step in STEPS
    }
    seen = detectable_difference(error, level=level) * scale.factor
    return Power(found.metric, found.count, seen, needed, scale.unit)


def _renamed(report: EvaluationReport, name: str) -> EvaluationReport:
    return msgspec.structs.replace(report, facts=msgspec.structs.replace(report.facts, candidate=name))
