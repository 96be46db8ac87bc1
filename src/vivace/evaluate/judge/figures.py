"""Figures of a judge with their intervals: agreement, kappa, AUC, win rate. Groups of rows are drawn, not rows."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vivace.domain import Interval, Score
from vivace.stats import (
    Floats,
    bootstrap_rows,
    bootstrap_statistic,
    mean_of_rows,
    paired_permutation_rows,
    proportion_interval,
)


class Resampling:
    """Level, number and seed of resamples, as [evaluate] has them."""

    def __init__(self, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> None:
        self.level = level
        self.resamples = resamples
        self.seed = seed


def grouped_rows(rows: ArrayLike, groups: Sequence[str]) -> Floats:
    """Return the sums of rows, shape (groups, k): what is resampled is independent then."""
    table = np.asarray(rows, dtype=np.float64)
    _, places = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros((int(places.max()) + 1, table.shape[1]))
    np.add.at(sums, places, table)
    return sums


def share(name: str, values: Sequence[float], groups: Sequence[str], how: Resampling) -> Score:
    """Return the mean of values between 0 and 1.

    Where all values are alike the bootstrap has nothing to draw from: then the interval is Wilson's of the groups.
    """
    rows = grouped_rows([(value, 1.0) for value in values], groups)
    mean = float(rows[:, 0].sum() / rows[:, 1].sum())
    interval = bootstrap_rows(rows, mean_of_rows, level=how.level, resamples=how.resamples, seed=how.seed)
    if interval.low == interval.high:
        count = len(rows)
        wilson = proportion_interval(round(mean * count), count, level=how.level)
        interval = Interval(min(mean, wilson.low), max(mean, wilson.high), how.level)
    return Score(name, mean, interval, len(values))


def kappa(table: Floats, groups: Sequence[str], cells: Sequence[tuple[int, int]], how: Resampling) -> Score:
    """Return Cohen's kappa of a square table of counts; `cells` are the (human, judge) places of each row."""
    size = len(table)
    rows = np.zeros((len(cells), size * size))
    rows[np.arange(len(cells)), [human * size + judge for human, judge in cells]] = 1.0
    sums = grouped_rows(rows, groups)
    value = float(_kappas(table.reshape(1, -1))[0])
    interval = bootstrap_rows(sums, _kappas, level=how.level, resamples=how.resamples, seed=how.seed)
    if interval.low == interval.high:
        # Nothing to draw from: carry Wilson's interval of the agreement through, chance as it is.
        total, marginals = table.sum(), (table.sum(axis=0) * table.sum(axis=1)).sum()
        chance = float(marginals / total**2)
        agreed = proportion_interval(
            round(float(np.trace(table)) / float(total) * len(sums)), len(sums), level=how.level
        )
        ends = [(end - chance) / (1 - chance) if chance < 1 else 0.0 for end in (agreed.low, agreed.high)]
        interval = Interval(min(value, ends[0]), max(value, ends[1]), how.level)
    return Score("kappa", value, interval, len(cells))


def auc(
    scores: Sequence[float], good: Sequence[bool], groups: Sequence[str], strata: Sequence[str], how: Resampling
) -> Score | None:
    """Return how often a good answer scores above a bad one of its stratum, ties as half; None without such pairs."""
    values, liked = np.asarray(scores, dtype=np.float64), np.asarray(good, dtype=bool)
    layer = np.unique(np.asarray(strata), return_inverse=True)[1]
    above, below = np.flatnonzero(liked), np.flatnonzero(~liked)
    same = (layer[above][:, None] == layer[below][None, :]).astype(np.float64)
    if not same.sum():
        return None
    wins = _compared(values[above][:, None], values[below][None, :]) * same
    names, places = np.unique(np.asarray(groups), return_inverse=True)

    def drawn(chosen: NDArray[np.int64]) -> float:
        counts = np.bincount(chosen, minlength=len(names)).astype(np.float64)[places]
        pairs = float(counts[above] @ same @ counts[below])
        return float(counts[above] @ wins @ counts[below]) / pairs if pairs else 0.5

    value = float(wins.sum() / same.sum())
    interval = bootstrap_statistic(len(names), drawn, level=how.level, resamples=how.resamples, seed=how.seed)
    if interval.low == interval.high:
        wilson = proportion_interval(round(value * min(len(above), len(below))), min(len(above), len(below)))
        interval = Interval(min(value, wilson.low), max(value, wilson.high), how.level)
    return Score("auc", value, interval, len(values))


def rank_gap(
    judged: Sequence[float], human: Sequence[float], lengths: Sequence[float], groups: Sequence[str], how: Resampling
) -> Score:
    """Return how much more the judge's scores than people's go with length: the difference of two rank correlations."""
    columns = np.stack([_ranks(np.asarray(each, dtype=np.float64)) for each in (judged, human, lengths)])
    names, places = np.unique(np.asarray(groups), return_inverse=True)

    def gap(weights: Floats) -> float:
        return _correlation(columns[0], columns[2], weights) - _correlation(columns[1], columns[2], weights)

    def drawn(chosen: NDArray[np.int64]) -> float:
        return gap(np.bincount(chosen, minlength=len(names)).astype(np.float64)[places])

    interval = bootstrap_statistic(len(names), drawn, level=how.level, resamples=how.resamples, seed=how.seed)
    return Score("length bias", gap(np.ones(len(places))), interval, len(places), "correlation")


def sign_test(wins: Sequence[float], losses: Sequence[float], groups: Sequence[str], how: Resampling) -> float:
    """Return the two-sided p-value that neither side wins more often, by swapping the sides of each group."""
    ones = np.ones(len(wins))
    sides = [grouped_rows(np.stack((np.asarray(each, np.float64), ones), 1), groups) for each in (wins, losses)]
    return paired_permutation_rows(sides[0], sides[1], mean_of_rows, resamples=how.resamples, seed=how.seed)


def best_threshold(scores: Floats, good: NDArray[np.bool_]) -> float:
    """Return the score from which on an answer counts as good, so that kappa is highest; between two scores."""
    ordered = np.unique(scores)
    cuts = np.concatenate(([ordered[0] - 1e-9], (ordered[1:] + ordered[:-1]) / 2))
    said = scores[None, :] > cuts[:, None]
    hits, alarms = (said & good).sum(1), (said & ~good).sum(1)
    misses, rest = good.sum() - hits, (~good).sum() - alarms
    found = _kappas(np.stack((rest, alarms, misses, hits), 1).astype(np.float64))
    return float(cuts[int(np.argmax(found))])


def crossed(scores: Sequence[float], good: Sequence[bool], groups: Sequence[str], folds: int = 5) -> list[bool]:
    """Return whether each score counts as good by a threshold that was chosen on the other groups."""
    values, liked = np.asarray(scores, dtype=np.float64), np.asarray(good, dtype=bool)
    fold = np.unique(np.asarray(groups), return_inverse=True)[1] % folds
    said = np.zeros(len(values), dtype=bool)
    for number in range(folds):
        inside = fold == number
        if inside.any():
            others = ~inside if (~inside).any() else inside
            said[inside] = values[inside] > best_threshold(values[others], liked[others])
    return [bool(each) for each in said]


def _kappas(tables: Floats) -> Floats:
    """Return kappa of tables of shape (m, k * k); 0 where chance explains everything."""
    size = round(tables.shape[1] ** 0.5)
    cube = tables.reshape(-1, size, size)
    total = np.maximum(cube.sum(axis=(1, 2)), 1e-12)
    agreed = np.trace(cube, axis1=1, axis2=2) / total
    chance = (cube.sum(axis=1) * cube.sum(axis=2)).sum(axis=1) / total**2
    beyond: Floats = np.divide(agreed - chance, 1 - chance, out=np.zeros(len(cube)), where=chance < 1 - 1e-12)
    return beyond


def _compared(first: Floats, second: Floats) -> Floats:
    """Return 1 where the first is larger, a half where both are alike (within rounding), else 0."""
    close = np.abs(first - second) < 1e-9
    return np.where(close, 0.5, (first > second).astype(np.float64))


def _ranks(values: Floats) -> Floats:
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return ((ends - counts + 1 + ends) / 2)[places].astype(np.float64)


def _correlation(first: Floats, second: Floats, weights: Floats) -> float:
    total = weights.sum()
    one, other = first - first @ weights / total, second - second @ weights / total
    spread = float(np.sqrt((one * one) @ weights * ((other * other) @ weights)))
    return float((one * other) @ weights / spread) if spread > 1e-12 else 0.0
