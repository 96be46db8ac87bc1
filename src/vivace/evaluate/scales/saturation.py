"""From the quality of several sizes to where more size stops paying: trend, curve, knee, each with its interval."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from msgspec import Struct

from vivace.domain import Interval
from vivace.evaluate.scales.curve import PARAMETERS, Curve, fit, heights, knees, unit_of
from vivace.evaluate.scales.drawing import bounds, drawn_values, interval, slope_weights, trend_p_value, values_of
from vivace.stats import Aggregate, Floats, detectable_difference, mean_of_rows, standard_error

FEWEST = PARAMETERS + 1
"""Sizes below which there is no curve: it would go through every point, whatever the truth."""
BAND_POINTS = 41
MISFIT_LEVEL = 0.1

Verdict = Literal["grows", "flat", "falls", "few"]
Reach = Literal["inside", "below", "beyond"]


class Point(Struct, frozen=True):
    """One model: its size on the axis and its value."""

    name: str
    size: float
    value: float
    interval: Interval


class Estimate(Struct, frozen=True):
    """A figure with its interval."""

    value: float
    interval: Interval


class Knee(Struct, frozen=True):
    """The size from which doubling brings less than `least`.

    `reach` is `below` the smallest or `beyond` the largest size that was measured where it does not lie between them;
    so are the interval's ends where they are the smallest and largest size.
    """

    least: float
    size: float
    interval: Interval
    reach: Reach


class LeftOut(Struct, frozen=True):
    """A size foretold from the others."""

    name: str
    measured: float
    foretold: float


class Prediction(Struct, frozen=True):
    """How far off foretelling each size from the others is on average; `by_mean` takes the mean of the others."""

    error: Estimate
    by_mean: float
    sizes: tuple[LeftOut, ...]


class Fitted(Struct, frozen=True):
    """The curve; `band` holds (size, height, low, high), `scatter` is what sizes differ from it beyond their questions.

    `misfit_p` is the probability of so much difference if there were none.
    """

    curve: Curve
    limit: Estimate
    exponent: Estimate
    knee: Knee
    band: tuple[tuple[float, float, float, float], ...]
    prediction: Prediction
    misfit_p: float
    scatter: float


class Saturation(Struct, frozen=True):
    """What size does to one metric. `slope` is the mean change per doubling; figures are as the metric has them.

    `detectable` is the change from the smallest to the largest size that the questions would show 8 times in 10.
    """

    axis: str
    metric: str
    count: int
    points: tuple[Point, ...]
    verdict: Verdict
    slope: Estimate | None = None
    p_value: float = 1.0
    detectable: float = 0.0
    fitted: Fitted | None = None


class Measure(Struct, frozen=True):
    """A metric as the curve needs it: its name, whether more is better, and the best value there can be."""

    name: str
    aggregate: Aggregate = mean_of_rows
    higher_is_better: bool = True
    best: float = 1.0
    least: float = 0.01

    @property
    def sign(self) -> int:
        """1 where more is better, else -1."""
        return 1 if self.higher_is_better else -1


def saturation(
    axis: str,
    names: Sequence[str],
    sizes: Floats,
    rows: Floats,
    measure: Measure,
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Saturation:
    """Return what size does to a metric; `rows` has shape (models, examples, k), `sizes` are in any order.

    With fewer than four sizes there is no curve, and none where no growth is shown.
    """
    order = np.argsort(sizes, kind="stable")
    sizes, rows, names = sizes[order], rows[order], [names[int(place)] for place in order]
    count = rows.shape[1]
    values = values_of(rows, measure.aggregate)
    drawn = drawn_values(rows, measure.aggregate, resamples=resamples, seed=seed)
    lows, highs = bounds(drawn, count, level)
    points = tuple(
        Point(name, float(size), float(value), Interval(float(low), float(high), level))
        for name, size, value, low, high in zip(names, sizes, values, lows, highs, strict=True)
    )
    distinct = len(np.unique(sizes))
    if distinct < 2:
        return Saturation(axis, measure.name, count, points, "few")
    weights = slope_weights(sizes)
    slope = Estimate(float(values @ weights), interval(drawn @ weights, count, level))
    p_value = trend_p_value(rows, measure.aggregate, sizes, resamples=resamples, seed=seed)
    span = math.log2(sizes[-1] / sizes[0])
    seen = detectable_difference(standard_error(slope.interval), level=level) * span
    verdict: Verdict = "flat"
    if p_value < 1 - level:
        verdict = "grows" if measure.sign * slope.value > 0 else "falls"
    if distinct < FEWEST:
        verdict = "few"
    fitted = None
    if verdict == "grows":
        fitted = _fitted(names, sizes, values, drawn, measure, count=count, level=level, seed=seed)
    return Saturation(axis, measure.name, count, points, verdict, slope, p_value, seen, fitted)


def curve_draws(sizes: Floats, values: Floats, drawn: Floats, ceiling: float, seed: int) -> tuple[Floats, Floats]:
    """Return the curve through `values` and the curves of the draws, shapes (3,) and (resamples, 3).

    The draws are laid around the curve itself; what the sizes miss it by beyond their questions is added as noise of
    its own, where the draws alone would show so much in fewer than 10 % of cases (see `misfit`).
    """
    weights = precision(drawn)
    whole = fit(sizes, values[None], weights, ceiling)
    around = heights(whole, sizes, unit_of(sizes)) + drawn - values
    curves = fit(sizes, around, weights, ceiling)
    p_value, scatter = misfit(sizes, values, around, whole, curves, weights)
    if p_value < MISFIT_LEVEL:
        # How large the scatter is, is itself known from few sizes only: Student's t, not the normal distribution.
        rng, free = np.random.default_rng(seed + 1), max(1, len(sizes) - PARAMETERS)
        scale = scatter * np.sqrt(free / rng.chisquare(free, (len(around), 1)))
        curves = fit(sizes, around + scale * rng.normal(size=around.shape), weights, ceiling)
    return whole[0], curves


def misfit(
    sizes: Floats, values: Floats, around: Floats, whole: Floats, curves: Floats, weights: Floats
) -> tuple[float, float]:
    """Return how probable it is that sizes miss the curve so far by their questions alone, and by how much more."""
    unit, share = unit_of(sizes), weights / weights.sum()
    seen = float(((values - heights(whole, sizes, unit)[0]) ** 2 @ share).item())
    chance = (around - heights(curves, sizes, unit)) ** 2 @ share
    p_value = (float(np.count_nonzero(chance >= seen)) + 1) / (len(chance) + 1)
    free = max(1, len(sizes) - PARAMETERS) / len(sizes)
    return p_value, math.sqrt(max(0.0, seen - float(chance.mean())) / free)


def precision(drawn: Floats) -> Floats:
    """Return the weight of each size: one over the variance of its draws, never above ten times the median."""
    variance = drawn.var(axis=0)
    middle = float(np.median(variance))
    return np.ones(drawn.shape[1]) if middle <= 0 else np.asarray(1 / np.maximum(variance, middle / 10))


def _fitted(
    names: Sequence[str],
    sizes: Floats,
    values: Floats,
    drawn: Floats,
    measure: Measure,
    *,
    count: int,
    level: float,
    seed: int,
) -> Fitted:
    sign, unit = measure.sign, unit_of(sizes)
    ceiling = sign * measure.best
    whole, curves = curve_draws(sizes, sign * values, sign * drawn, ceiling, seed)
    weights = precision(drawn)
    around = heights(whole[None], sizes, unit) + sign * (drawn - values)
    p_value, scatter = misfit(sizes, sign * values, around, whole[None], fit(sizes, around, weights, ceiling), weights)
    limits, exponents = interval(sign * curves[:, 0], count, level), interval(curves[:, 2], count, level)
    return Fitted(
        Curve(float(whole[0]), float(whole[1]), float(whole[2]), unit),
        Estimate(float(sign * whole[0]), limits),
        Estimate(float(whole[2]), exponents),
        knee_of(sizes, whole, curves, measure.least, count, level),
        _band(sizes, whole, curves, sign, count, level),
        foretold(names, sizes, sign * values, sign * drawn, sign, ceiling, count=count, level=level),
        p_value,
        scatter if p_value < MISFIT_LEVEL else 0.0,
    )


def knee_of(sizes: Floats, whole: Floats, curves: Floats, least: float, count: int, level: float) -> Knee:
    """Return the knee; beyond what was measured nothing more than that is said."""
    low, high, unit = float(sizes.min()), float(sizes.max()), unit_of(sizes)
    size = float(knees(whole[None], unit, least)[0])
    reach: Reach = "below" if size <= low else "beyond" if size >= high else "inside"
    found = interval(np.clip(knees(curves, unit, least), low, high), count, level)
    return Knee(least, min(max(size, low), high), found, reach)


def _band(
    sizes: Floats, whole: Floats, curves: Floats, sign: int, count: int, level: float
) -> tuple[tuple[float, float, float, float], ...]:
    """Return the curve from the smallest to twice the largest size."""
    places = np.geomspace(sizes.min(), 2 * sizes.max(), BAND_POINTS)
    unit = unit_of(sizes)
    height = sign * heights(whole[None], places, unit)[0]
    low, high = bounds(sign * heights(curves, places, unit), count, level)
    return tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in zip(places, height, low, high, strict=True))


def foretold(
    names: Sequence[str],
    sizes: Floats,
    values: Floats,
    drawn: Floats,
    sign: int,
    ceiling: float,
    *,
    count: int,
    level: float,
) -> Prediction:
    """Return how well each size can be told from the others; `values` and `drawn` are oriented, more is better."""
    weights = precision(drawn)
    told, means = [], []
    misses = np.zeros_like(drawn)
    for place in range(len(sizes)):
        others = np.arange(len(sizes)) != place
        curves = fit(sizes[others], np.vstack((values[None], drawn))[:, others], weights[others], ceiling)
        heard = heights(curves, sizes[place : place + 1], unit_of(sizes[others]))[:, 0]
        told.append(LeftOut(names[place], float(sign * values[place]), float(sign * heard[0])))
        means.append(abs(float(values[others].mean() - values[place])))
        misses[:, place] = np.abs(heard[1:] - drawn[:, place])
    error = float(np.mean([abs(each.measured - each.foretold) for each in told]))
    return Prediction(Estimate(error, interval(misses.mean(axis=1), count, level)), float(np.mean(means)), tuple(told))
