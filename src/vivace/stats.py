"""Intervals and tests by resampling: seeded, vectorized, numpy only.

Per-example results come as rows of shape (examples, k) whose column sums are enough to compute the statistic; an
`Aggregate` turns sums of shape (resamples, k) into statistics of shape (resamples,). A mean is the special case of
the columns (value, 1).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vivace.domain.score import Interval

Floats = NDArray[np.float64]
Aggregate = Callable[[Floats], Floats]

_BLOCK_CELLS = 2_000_000  # cells of one block of resamples: bounds memory whatever the number of examples
_NORMAL = NormalDist()


def bootstrap_mean(values: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Return the bootstrap interval of the mean."""
    return bootstrap_rows(mean_rows(values), mean_of_rows, level=level, resamples=resamples, seed=seed)


def bootstrap_rows(
    rows: ArrayLike, aggregate: Aggregate, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the bootstrap interval of a statistic of column sums.

    The method is the expanded percentile interval (Hesterberg 2015, "What teachers should know about the bootstrap"),
    chosen by simulated coverage over the plain percentile, BCa and studentized intervals: see `docs/evaluate.md`.
    """
    table = _rows(rows)
    drawn = [aggregate(counts @ table) for counts in _resample_counts(len(table), resamples, seed)]
    return _percentile_interval(np.concatenate(drawn), len(table), level)


def bootstrap_statistic(
    count: int,
    statistic: Callable[[NDArray[np.int64]], float],
    *,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the bootstrap interval of any statistic of the examples at the given indices, one call per resample."""
    _need(count)
    rng = np.random.default_rng(seed)
    drawn = np.array([statistic(rng.integers(0, count, count)) for _ in range(resamples)], dtype=np.float64)
    return _percentile_interval(drawn, count, level)


def paired_bootstrap(
    a: ArrayLike, b: ArrayLike, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the bootstrap interval of mean(a - b), where a[i] and b[i] belong to the same example."""
    first, second = _paired(_values(a), _values(b))
    return bootstrap_mean(first - second, level=level, resamples=resamples, seed=seed)


def paired_bootstrap_rows(
    a: ArrayLike, b: ArrayLike, aggregate: Aggregate, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Return the bootstrap interval of statistic(a) - statistic(b), the same examples drawn for both."""
    first, second = _paired(_rows(a), _rows(b))
    drawn = [
        aggregate(counts @ first) - aggregate(counts @ second)
        for counts in _resample_counts(len(first), resamples, seed)
    ]
    return _percentile_interval(np.concatenate(drawn), len(first), level)


def paired_permutation(a: ArrayLike, b: ArrayLike, *, resamples: int = 2000, seed: int = 0) -> float:
    """Return the two-sided p-value that mean(a) = mean(b), by swapping a[i] and b[i] at random; never 0."""
    first, second = _paired(_values(a), _values(b))
    return paired_permutation_rows(mean_rows(first), mean_rows(second), mean_of_rows, resamples=resamples, seed=seed)


def paired_permutation_rows(
    a: ArrayLike, b: ArrayLike, aggregate: Aggregate, *, resamples: int = 2000, seed: int = 0
) -> float:
    """Return the two-sided p-value that statistic(a) = statistic(b) (approximate randomization); never 0.

    p = (k + 1) / (resamples + 1), k counting swaps at least as extreme as what was seen (Phipson & Smyth 2010).
    """
    first, second = _paired(_rows(a), _rows(b))
    total_a, total_b, difference = first.sum(axis=0), second.sum(axis=0), first - second
    seen = float(abs(aggregate(total_a[None]) - aggregate(total_b[None]))[0])
    tolerance = 1e-9 * max(1.0, seen)  # sums in another order differ in their last bits
    rng, extreme = np.random.default_rng(seed), 0
    for size in _block_sizes(len(first), resamples):
        moved = rng.integers(0, 2, (size, len(first))).astype(np.float64) @ difference  # (size, k)
        swapped = np.abs(aggregate(total_a - moved) - aggregate(total_b + moved))
        extreme += int(np.count_nonzero(swapped >= seen - tolerance))
    return (extreme + 1) / (resamples + 1)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for the family by Holm's step-down procedure, in the order given."""
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    adjusted, running = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[place]))
        adjusted[place] = running
    return adjusted


def ratio_interval(
    a: ArrayLike,
    b: ArrayLike,
    *,
    statistic: Callable[..., Floats] = np.median,
    paired: bool = False,
    level: float = 0.95,
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Return the bootstrap interval of statistic(a) / statistic(b), such as a ratio of median latencies.

    `statistic` takes (values, axis=1), as numpy's reductions do. `paired` draws the same indices for both sides.
    The plain percentile interval: bootstrapped medians lie on a coarse grid and already cover more than `level`.
    """
    first, second = _values(a), _values(b)
    if paired:
        _paired(first, second)
    if not (second > 0).all():
        raise ValueError("a ratio needs denominators above 0")
    rng, drawn = np.random.default_rng(seed), []
    for size in _block_sizes(max(len(first), len(second)), resamples):
        chosen = rng.integers(0, len(first), (size, len(first)))
        other = chosen if paired else rng.integers(0, len(second), (size, len(second)))
        drawn.append(statistic(first[chosen], axis=1) / statistic(second[other], axis=1))
    low, high = np.quantile(np.concatenate(drawn), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high), level)


def proportion_interval(successes: int, count: int, *, level: float = 0.95) -> Interval:
    """Return Wilson's interval of a share: unlike the bootstrap it stays honest when all or none succeed."""
    if count < 1 or not 0 <= successes <= count:
        raise ValueError(f"{successes} of {count} is no proportion")
    z = _z(level)
    share = successes / count
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + (z / (2 * count)) ** 2)
    # At 0 and 1 the exact bounds are 0 and 1; rounding must not cut the share itself off.
    return Interval(min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)), level)


def quantile_interval(values: ArrayLike, q: float, *, level: float = 0.95) -> Interval:
    """Return an interval of the q-quantile between two order statistics, exact for any distribution.

    With too few values for `level` the smallest or largest value is the bound and `Interval.level` is the coverage
    that is really reached (David & Nagaraja 2003, *Order Statistics*, section 7.1).
    """
    if not 0 < q < 1:
        raise ValueError(f"quantile {q} is not between 0 and 1")
    ordered = np.sort(_values(values))
    count, tail = len(ordered), (1 - level) / 2
    below = np.concatenate(([0.0], np.cumsum(_binomial(count, q))))  # below[i] = P(fewer than i values ≤ quantile)
    # Rounding: a cumulative sum that misses the tail by its last bits must still count.
    low = int(np.searchsorted(below[1:], tail + 1e-12, side="right"))
    high = int(np.searchsorted(below, 1 - tail - 1e-12, side="left"))
    low, high = min(max(low, 1), count), min(max(high, 1), count)
    reached = max(0.0, float(below[high] - below[low]))
    return Interval(float(ordered[low - 1]), float(ordered[high - 1]), min(level, reached))


def detectable_difference(standard_error: float, *, level: float = 0.95, power: float = 0.8) -> float:
    """Return the smallest true difference that a two-sided test finds with probability `power`.

    `standard_error` is that of the measured difference: its standard deviation over the square root of the examples.
    """
    return (_z(level) + _NORMAL.inv_cdf(power)) * standard_error


def needed_examples(standard_error: float, count: int, difference: float, *, level: float = 0.95) -> int:
    """Return how many examples would show `difference` 8 times in 10, where `count` of them have `standard_error`."""
    if difference <= 0:
        raise ValueError(f"a difference of {difference} needs endless examples")
    return max(2, math.ceil(count * (detectable_difference(standard_error, level=level) / difference) ** 2))


def standard_error(interval: Interval) -> float:
    """Return the standard error that a symmetric normal interval of this width would have."""
    return (interval.high - interval.low) / 2 / _z(interval.level)


def mean_rows(values: ArrayLike) -> Floats:
    """Return the rows (value, 1) whose aggregate is the mean."""
    column = _values(values)
    return np.stack((column, np.ones_like(column)), axis=1)


def mean_of_rows(sums: Floats) -> Floats:
    """Aggregate sums of (numerator, denominator) to their ratio; 0 where the denominator is 0."""
    return np.divide(sums[:, 0], sums[:, 1], out=np.zeros(len(sums)), where=sums[:, 1] != 0)


def _percentile_interval(drawn: Floats, count: int, level: float) -> Interval:
    """Cut the tails of the drawn statistics, widened for `count` as a t-interval is wider than a normal one."""
    if count < 2:
        return Interval(float(drawn.min()), float(drawn.max()), level)
    tail = _NORMAL.cdf(-math.sqrt(count / (count - 1)) * _student_quantile((1 + level) / 2, count - 1))
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(float(low), float(high), level)


def _student_quantile(p: float, degrees: int) -> float:
    """Return Student's t quantile: exact for 1 and 2 degrees, else Abramowitz & Stegun 26.7.5."""
    if degrees == 1:
        return math.tan(math.pi * (p - 0.5))
    if degrees == 2:
        return (2 * p - 1) * math.sqrt(2 / (4 * p * (1 - p)))
    x = _NORMAL.inv_cdf(p)
    terms = (
        x,
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return math.fsum(term / float(degrees**power) for power, term in enumerate(terms))


def _binomial(count: int, q: float) -> Floats:
    """Return the probabilities of 0 … count successes."""
    logs = np.concatenate(([0.0], np.cumsum(np.log(np.arange(1, count + 1)))))  # log of factorials
    k = np.arange(count + 1)
    exponent = logs[count] - logs[k] - logs[count - k] + k * math.log(q) + (count - k) * math.log1p(-q)
    return np.asarray(np.exp(exponent), dtype=np.float64)


def _z(level: float) -> float:
    return _NORMAL.inv_cdf((1 + level) / 2)


def _resample_counts(count: int, resamples: int, seed: int) -> Iterator[Floats]:
    """Yield blocks of shape (size, count): how often each example is drawn in each resample."""
    rng = np.random.default_rng(seed)
    for size in _block_sizes(count, resamples):
        drawn = rng.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        yield np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count).astype(np.float64)


def _block_sizes(count: int, resamples: int) -> Iterator[int]:
    block = max(1, _BLOCK_CELLS // count)
    for start in range(0, resamples, block):
        yield min(block, resamples - start)


def _values(values: ArrayLike) -> Floats:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise ValueError(f"values have shape {array.shape}, wanted one dimension")
    return _finite(array)


def _rows(rows: ArrayLike) -> Floats:
    array = np.asarray(rows, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"rows have shape {array.shape}, wanted (examples, k)")
    return _finite(array)


def _finite(array: Floats) -> Floats:
    _need(len(array))
    if not np.isfinite(array).all():
        raise ValueError("values contain NaN or infinity")
    return array


def _need(count: int) -> None:
    if count < 1:
        raise ValueError("nothing to resample")


def _paired(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    if a.shape != b.shape:
        raise ValueError(f"pairs have shapes {a.shape} and {b.shape}")
    return a, b
