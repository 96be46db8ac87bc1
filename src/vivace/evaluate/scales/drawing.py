"""Several statistics of the same examples, drawn again and again together, and the trend test over sizes."""

import math
from collections.abc import Iterator

import numpy as np

from vivace.domain import Interval
from vivace.stats import Aggregate, Floats

_CELLS = 4_000_000


def drawn_values(rows: Floats, aggregate: Aggregate, *, resamples: int, seed: int) -> Floats:
    """Return a statistic of each model in each resample of the examples, shape (resamples, models).

    `rows` has shape (models, examples, k); the same examples are drawn for every model.
    """
    models, count, width = rows.shape
    flat = rows.transpose(1, 0, 2).reshape(count, models * width)
    rng, found = np.random.default_rng(seed), []
    for size in _blocks(resamples, count):
        counts = rng.multinomial(count, np.full(count, 1 / count), size).astype(np.float64)
        sums = (counts @ flat).reshape(size * models, width)
        found.append(aggregate(sums).reshape(size, models))
    return np.concatenate(found)


def values_of(rows: Floats, aggregate: Aggregate) -> Floats:
    """Return the statistic of each model over all examples."""
    return np.asarray(aggregate(rows.sum(axis=1)))


def bounds(drawn: Floats, count: int, level: float) -> tuple[Floats, Floats]:
    """Return the expanded percentile interval of each column, as `vivace.stats.bootstrap_rows` cuts it."""
    from scipy.stats import norm, t

    tail = norm.cdf(-math.sqrt(count / (count - 1)) * t.ppf((1 + level) / 2, count - 1))
    low, high = np.quantile(drawn, [tail, 1 - tail], axis=0)
    return np.asarray(low), np.asarray(high)


def interval(drawn: Floats, count: int, level: float) -> Interval:
    """Return the expanded percentile interval of one drawn statistic."""
    low, high = bounds(drawn[:, None], count, level)
    return Interval(float(low[0]), float(high[0]), level)


def slope_weights(sizes: Floats) -> Floats:
    """Return the weights that make values a least-squares slope per doubling of the size."""
    logs = np.log2(sizes) - np.log2(sizes).mean()
    return np.asarray(logs / (logs**2).sum())


def trend_p_value(rows: Floats, aggregate: Aggregate, sizes: Floats, *, resamples: int, seed: int) -> float:
    """Return the two-sided p-value that size does not matter: each example's results dealt to the sizes at random.

    Exact whatever the distribution, as every example is asked of every model; never 0 (Phipson & Smyth 2010).
    """
    models, count, width = rows.shape
    weights = slope_weights(sizes)
    seen = abs(float(values_of(rows, aggregate) @ weights))
    tolerance = 1e-9 * max(1.0, seen)
    rng, extreme, table = np.random.default_rng(seed), 0, rows.transpose(1, 0, 2)
    for size in _blocks(resamples, count * models * width):
        dealt = rng.random((size, count, models)).argsort(axis=2)
        sums = np.take_along_axis(table[None], dealt[..., None], axis=2).sum(axis=1)
        slopes = aggregate(sums.reshape(size * models, width)).reshape(size, models) @ weights
        extreme += int(np.count_nonzero(np.abs(slopes) >= seen - tolerance))
    return (extreme + 1) / (resamples + 1)


def _blocks(resamples: int, cells: int) -> Iterator[int]:
    block = max(1, _CELLS // cells)
    for start in range(0, resamples, block):
        yield min(block, resamples - start)
