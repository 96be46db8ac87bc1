"""Is one candidate better than another, or is it noise? Paired on the same examples, corrected for the family."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np

from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Comparison, Score
from vivace.errors import DataError
from vivace.evaluate.answers import Answer
from vivace.evaluate.graders import PASSED
from vivace.evaluate.metric import METRICS, Metric, stored_metric
from vivace.evaluate.report import EvaluationReport, load_report
from vivace.evaluate.slices import SWAPS, oriented
from vivace.stats import (
    Floats,
    detectable_difference,
    holm,
    paired_bootstrap_rows,
    paired_permutation_rows,
    standard_error,
)

_FEWEST = 2


def compare(
    candidate: Path | EvaluationReport, baseline: Path | EvaluationReport, settings: EvaluateSettings
) -> list[Comparison]:
    """Return one comparison per metric that both have, positive where the candidate is better.

    p-values are Holm-corrected over the metrics. Likelihoods per token are compared only where both cut the
    references into as many tokens. Raises `DataError` unless both answered the same examples.
    """
    first, second = _opened(candidate), _opened(baseline)
    check_same_examples(first, second)
    comparisons = []
    for metric in every_metric(first):
        pairs = _pairs(metric, first, second)
        if metric.compared and len(pairs) >= _FEWEST:
            rows = [metric.rows([pair[side] for pair in pairs]) for side in (0, 1)]
            names = (first.facts.candidate, second.facts.candidate)
            comparisons.append(_comparison(metric, rows[0], rows[1], names, settings))
    return family(comparisons)


def every_metric(report: EvaluationReport) -> list[Metric]:
    """Return the registered metrics and those that the report's project brought itself."""
    known = METRICS.names()
    brought = [each for each in report.scores if each.metric not in known and not each.metric.endswith(PASSED)]
    return [*map(METRICS.load, known), *map(stored, brought)]


def stored(score: Score) -> Metric:
    """Return the metric of a score that a project's own grader gave."""
    return stored_metric(score.metric, unit=score.unit, higher_is_better=score.higher_is_better)


def family(comparisons: Sequence[Comparison]) -> list[Comparison]:
    """Return the comparisons with `p_adjusted` corrected over all of them, whatever it was before."""
    adjusted = holm([each.p_value for each in comparisons])
    return [msgspec.structs.replace(each, p_adjusted=value) for each, value in zip(comparisons, adjusted, strict=True)]


def detectable(comparison: Comparison) -> float:
    """Return the smallest true difference that this pair of systems on this many examples would show 8 times in 10."""
    return detectable_difference(standard_error(comparison.interval), level=comparison.interval.level)


def describe(comparison: Comparison) -> str:
    """Return the outcome as a sentence, with what noise could hide."""
    unit = comparison.unit
    scale, word = (1, unit) if unit else (100, "points")
    low, high = (bound * scale for bound in (comparison.interval.low, comparison.interval.high))
    figures = (
        f"{comparison.difference * scale:+.1f} {word}, {comparison.interval.level:.0%} interval {low:+.1f} to "
        f"{high:+.1f}, adjusted p {comparison.p_adjusted:.3g}"
    )
    pair = f"{comparison.candidate} and {comparison.baseline} in {comparison.metric}"
    if comparison.outcome == "noise":
        return (
            f"Between {pair} there is noise only ({figures}); with {comparison.count} examples a difference under "
            f"{detectable(comparison) * scale:.1f} {word} cannot be seen."
        )
    return (
        f"{comparison.candidate} is {comparison.outcome} than {comparison.baseline} in {comparison.metric} ({figures})."
    )


def _comparison(
    metric: Metric, candidate: Floats, baseline: Floats, names: tuple[str, str], settings: EvaluateSettings
) -> Comparison:
    better = oriented(metric)
    values = [better(rows.sum(axis=0)[None])[0] for rows in (candidate, baseline)]
    swaps = SWAPS * settings.resamples
    p_value = paired_permutation_rows(candidate, baseline, better, resamples=swaps, seed=settings.seed)
    interval = paired_bootstrap_rows(
        candidate,
        baseline,
        better,
        level=settings.confidence,
        resamples=settings.resamples,
        seed=settings.seed,
    )
    return Comparison(
        metric.name, *names, float(values[0] - values[1]), interval, p_value, p_value, len(candidate), metric.unit
    )


def _pairs(metric: Metric, first: EvaluationReport, second: EvaluationReport) -> list[tuple[Answer, Answer]]:
    """Return the pairs of answers that the metric can compare."""
    scored = [{each.id for each in metric.scored(report.answers)} for report in (first, second)]
    both = scored[0] & scored[1]
    pairs = [pair for pair in zip(first.answers, second.answers, strict=True) if pair[0].id in both]
    if not metric.of_likelihood:
        return pairs
    counts = np.array([[each.token_count for each in pair] for pair in pairs]).reshape(len(pairs), 2)
    # Other tokens, other question: a loss per token says nothing across tokenizers.
    return pairs if (counts[:, 0] == counts[:, 1]).all() else []


def check_same_examples(first: EvaluationReport, second: EvaluationReport) -> None:
    """Raise `DataError` unless both answered the same examples with the same references."""
    sides = [{each.id: each.reference for each in report.answers} for report in (first, second)]
    names = (first.facts.candidate, second.facts.candidate)
    unequal = sorted(sides[0].keys() ^ sides[1].keys())
    if unequal:
        raise DataError(
            f"{names[0]} and {names[1]} answered different examples: {len(unequal)} are in one only, such as "
            f"{unequal[0]!r}.",
            "Evaluate both with the same dataset and the same [evaluate] max_examples.",
        )
    changed = [key for key, reference in sides[0].items() if sides[1][key] != reference]
    if changed:
        raise DataError(
            f"{names[0]} and {names[1]} were asked with other references, as in example {changed[0]!r}.",
            "Evaluate both with the same dataset.",
        )


def _opened(report: Path | EvaluationReport) -> EvaluationReport:
    return load_report(report) if isinstance(report, Path) else report
