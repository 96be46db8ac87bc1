"""Claims about intervals and tests, checked by simulation and against scipy."""

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vivace import stats
from vivace.domain import Interval

SIMULATIONS = 500
TOLERANCE = 0.03  # three standard errors of a share of 0.95 or 0.05 seen 500 times


def f1_like(rng: np.random.Generator, count: int) -> np.ndarray:
    """Scores as token F1 looks: skewed, between 0 and 1, some exactly 0; the mean is 0.9 * 1.5 / 5.5."""
    return np.where(rng.random(count) < 0.1, 0.0, rng.beta(1.5, 4, count))


F1_MEAN = 0.9 * 1.5 / 5.5


def covers(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


@pytest.mark.parametrize("count", [20, 120])
def test_the_interval_of_a_mean_covers_the_truth_as_often_as_it_says(count):
    rng = np.random.default_rng(1)
    hits = [
        covers(stats.bootstrap_mean(f1_like(rng, count), resamples=600, seed=run), F1_MEAN)
        for run in range(SIMULATIONS)
    ]
    assert abs(np.mean(hits) - 0.95) <= TOLERANCE


def test_the_interval_of_a_difference_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(2)
    hits = []
    for run in range(SIMULATIONS):
        b = f1_like(rng, 60)
        a = b + rng.normal(0.03, 0.1, 60)
        hits.append(covers(stats.paired_bootstrap(a, b, resamples=600, seed=run), 0.03))
    assert abs(np.mean(hits) - 0.95) <= TOLERANCE


def test_the_interval_of_a_ratio_of_sums_covers_the_truth():
    rng = np.random.default_rng(3)
    hits = []
    for run in range(SIMULATIONS):
        tokens = rng.integers(5, 60, 60).astype(float)
        losses = tokens * rng.gamma(4, 0.5, 60)  # 2 nats per token
        interval = stats.bootstrap_rows(np.stack((losses, tokens), axis=1), stats.mean_of_rows, resamples=600, seed=run)
        hits.append(covers(interval, 2.0))
    assert abs(np.mean(hits) - 0.95) <= TOLERANCE


@pytest.mark.parametrize(("q", "count"), [(0.5, 24), (0.95, 120)])
def test_the_interval_of_a_quantile_covers_the_truth_at_least_as_often_as_it_says(q, count):
    rng = np.random.default_rng(4)
    hits, level = [], 0.0
    for _ in range(2000):
        interval = stats.quantile_interval(rng.exponential(size=count), q)
        level = interval.level
        hits.append(covers(interval, -math.log(1 - q)))
    assert level == 0.95
    assert 0.94 <= np.mean(hits) <= 0.985  # order statistics are discrete, so it may cover a little more


def test_a_quantile_of_too_few_values_says_the_coverage_it_reaches():
    rng = np.random.default_rng(5)
    intervals = [stats.quantile_interval(rng.random(24), 0.95) for _ in range(2000)]
    assert intervals[0].level == pytest.approx(1 - 0.95**24, abs=0.03)
    assert np.mean([covers(i, 0.95) for i in intervals]) == pytest.approx(intervals[0].level, abs=0.03)


def test_quantile_bounds_are_those_of_the_binomial_distribution():
    binom = pytest.importorskip("scipy.stats").binom
    values = np.arange(1, 101, dtype=float)
    interval = stats.quantile_interval(values, 0.5)
    assert (interval.low, interval.high) == (40, 61)  # the textbook's ranks for n = 100
    assert binom.cdf(60, 100, 0.5) - binom.cdf(39, 100, 0.5) >= 0.95


@pytest.mark.parametrize("shape", ["mean", "ratio of sums"])
def test_equal_systems_are_told_apart_in_at_most_one_of_twenty_cases(shape):
    rng = np.random.default_rng(6)
    p_values = []
    for run in range(SIMULATIONS):
        common = f1_like(rng, 60)
        a, b = (np.clip(common + rng.normal(0, 0.1, 60), 0, 1) for _ in range(2))
        if shape == "mean":
            p_values.append(stats.paired_permutation(a, b, resamples=400, seed=run))
        else:
            weights = rng.integers(5, 60, 60)
            rows = [np.stack((side * weights, weights), axis=1) for side in (a, b)]
            p_values.append(stats.paired_permutation_rows(*rows, stats.mean_of_rows, resamples=400, seed=run))
    assert np.mean(np.array(p_values) < 0.05) <= 0.05 + TOLERANCE
    assert np.mean(np.array(p_values) < 0.5) == pytest.approx(0.5, abs=0.08)  # and the test is not merely timid


def test_a_planted_difference_is_found_with_the_power_that_was_computed():
    rng = np.random.default_rng(7)
    planted = stats.detectable_difference(0.2 / math.sqrt(60), power=0.8)
    found = []
    for run in range(SIMULATIONS):
        b = rng.random(60)
        a = b + rng.normal(planted, 0.2, 60)
        found.append(stats.paired_permutation(a, b, resamples=400, seed=run) < 0.05)
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def test_p_is_never_zero_and_agrees_with_scipy():
    permutation_test = pytest.importorskip("scipy.stats").permutation_test
    rng = np.random.default_rng(8)
    b = rng.random(40)
    assert stats.paired_permutation(b + 5, b, resamples=999) == 1 / 1000
    assert stats.paired_permutation(b, b) == 1.0
    a = b + rng.normal(0.06, 0.2, 40)
    wanted = permutation_test(
        (a, b),
        lambda x, y: abs(np.mean(x - y)),
        permutation_type="samples",
        alternative="greater",
        n_resamples=20_000,
        rng=np.random.default_rng(0),
    ).pvalue
    assert stats.paired_permutation(a, b, resamples=20_000) == pytest.approx(wanted, abs=0.012)


def test_holm_gives_the_textbook_values():
    # Wikipedia, "Holm-Bonferroni method", example: p = 0.01, 0.04, 0.03, 0.005.
    assert stats.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert stats.holm([]) == []


@given(st.lists(st.floats(0, 1), max_size=12))
def test_holm_never_lowers_a_p_value_and_keeps_the_order(p_values):
    adjusted = stats.holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    assert [adjusted[i] for i in order] == sorted(adjusted)


def test_a_ratio_of_medians_covers_the_truth_paired_or_not():
    rng = np.random.default_rng(9)
    for paired in (False, True):
        hits = []
        for run in range(SIMULATIONS):
            b = rng.lognormal(3, 0.3, 48)
            a = b * rng.lognormal(math.log(2), 0.1, 48) if paired else rng.lognormal(3 + math.log(2), 0.3, 48)
            hits.append(covers(stats.ratio_interval(a, b, paired=paired, resamples=400, seed=run), 2.0))
        assert np.mean(hits) >= 0.93  # medians of few values lie on a coarse grid: it covers more, never less
        interval = stats.ratio_interval(a, b, paired=paired)
        assert interval.high - interval.low < 0.6  # it tells twice from one and a half times
    with pytest.raises(ValueError, match="above 0"):
        stats.ratio_interval([1.0], [0.0])


def test_a_proportion_of_none_or_all_still_has_an_interval():
    # Agresti & Coull 1998: Wilson's bound for 0 of n is z² / (n + z²).
    assert stats.proportion_interval(0, 120).high == pytest.approx(3.8415 / 123.8415, abs=1e-4)
    assert stats.proportion_interval(120, 120).low == pytest.approx(1 - 3.8415 / 123.8415, abs=1e-4)
    assert stats.proportion_interval(120, 120).high == 1.0


@pytest.mark.parametrize("degrees", [1, 2, 3, 5, 19, 119])
def test_student_quantiles_agree_with_scipy(degrees):
    t = pytest.importorskip("scipy.stats").t
    for p in (0.9, 0.95, 0.975):
        assert stats._student_quantile(p, degrees) == pytest.approx(t.ppf(p, degrees), rel=0.01)


def test_bootstrapping_by_indices_and_by_rows_give_the_same_interval():
    values = f1_like(np.random.default_rng(10), 80)
    by_rows = stats.bootstrap_mean(values, resamples=4000, seed=1)
    by_index = stats.bootstrap_statistic(80, lambda idx: float(values[idx].mean()), resamples=4000, seed=2)
    assert by_rows.low == pytest.approx(by_index.low, abs=0.004)
    assert by_rows.high == pytest.approx(by_index.high, abs=0.004)


def test_the_same_seed_gives_the_same_interval_and_many_examples_fit_in_memory():
    values = np.random.default_rng(11).random(20_000)
    started = time.monotonic()
    first = stats.bootstrap_mean(values, resamples=400, seed=3)
    assert first == stats.bootstrap_mean(values, resamples=400, seed=3)
    assert first != stats.bootstrap_mean(values, resamples=400, seed=4)
    assert time.monotonic() - started < 30


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=30), st.integers(0, 5))
@settings(max_examples=50)
def test_an_interval_of_a_mean_lies_within_the_values(values, seed):
    interval = stats.bootstrap_mean(values, resamples=100, seed=seed)
    slack = 1e-9 * max(1.0, *map(abs, values))
    assert min(values) - slack <= interval.low <= interval.high <= max(values) + slack


@pytest.mark.parametrize("values", [[], [float("nan"), 1.0], [float("inf")]])
def test_nothing_and_not_a_number_are_refused(values):
    with pytest.raises(ValueError, match=r"nothing to resample|NaN or infinity"):
        stats.bootstrap_mean(values)


def test_pairs_of_different_length_are_refused():
    with pytest.raises(ValueError, match="shapes"):
        stats.paired_permutation([1.0, 2.0], [1.0])


def test_the_standard_error_of_an_interval_is_that_of_the_mean():
    values = np.random.default_rng(12).normal(size=400)
    seen = stats.standard_error(stats.bootstrap_mean(values, resamples=4000))
    assert seen == pytest.approx(values.std(ddof=1) / 20, rel=0.05)
