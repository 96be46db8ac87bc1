"""Figures from times."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.bench.load import Run, Sample
from vivace.bench.summary import goodput, latency, speed_of, speedup


def sample(ttft_ms: float, tpot_ms: float, tokens: int = 11, error: str | None = None) -> Sample:
    first = ttft_ms / 1e3
    return Sample("r", 0.0, 0.0, first + tpot_ms * (tokens - 1) / 1e3, first, 20, tokens, 0, error)


def test_percentiles_come_with_intervals_and_counts() -> None:
    measured = latency("e2e", [float(value) for value in range(1, 102)])
    assert measured.p50_ms.value == 51
    assert measured.p95_ms.value == 96
    assert measured.p50_ms.interval.low < 51 < measured.p50_ms.interval.high
    assert (measured.p50_ms.metric, measured.p50_ms.unit, measured.p50_ms.count) == ("e2e_p50_ms", "ms", 101)
    assert not measured.p50_ms.higher_is_better


def test_what_was_never_measured_says_so() -> None:
    assert latency("tpot", [None, None]).p50_ms.count == 0


def test_throughput_counts_what_was_answered_over_the_wall_time_of_all_blocks() -> None:
    runs = [Run((sample(100, 10), sample(100, 10, error="x")), 2.0), Run((sample(100, 10),), 3.0)]
    speed = speed_of(runs, "conversational", 1.5, 10**6)
    assert (speed.completed, speed.failed) == (2, 1)
    assert speed.requests_per_s == pytest.approx(2 / 5)
    assert speed.output_tokens_per_s == pytest.approx(22 / 5)
    assert speed.goodput_fraction == pytest.approx(2 / 3)
    assert (speed.load_s, speed.peak_memory_bytes) == (1.5, 10**6)


@pytest.mark.parametrize(
    ("made", "good"),
    [
        (sample(499, 29), True),
        (sample(501, 29), False),
        (sample(499, 31), False),
        (sample(499, 999, tokens=1), True),
        (sample(10, 1, error="died"), False),
    ],
)
def test_goodput_wants_both_limits_kept_and_no_failure(made: Sample, good: bool) -> None:
    assert goodput([made], "interactive") == good


def test_a_ratio_says_how_many_times_faster() -> None:
    slow = [sample(100 + number, 100) for number in range(16)]
    fast = [sample(50 + number / 2, 50) for number in range(16)]
    found = speedup("new", "base", "fixed", fast, slow, seed=0)
    assert found.ratio == pytest.approx(2.0)
    assert found.low <= 2.0 <= found.high
    assert found.high - found.low < 0.1
    assert (found.candidate, found.baseline, found.workload, found.metric) == ("new", "base", "fixed", "e2e_p50_ms")


@given(st.lists(st.floats(1, 1e4), min_size=2, max_size=20), st.floats(1.1, 10))
def test_a_ratio_and_its_inverse_agree(times_ms: list[float], factor: float) -> None:
    ours = [sample(value, 0) for value in times_ms]
    theirs = [sample(value * factor, 0) for value in times_ms]
    assert speedup("a", "b", "natural", ours, theirs, 0).ratio == pytest.approx(factor)
    assert speedup("b", "a", "natural", theirs, ours, 0).ratio == pytest.approx(1 / factor)
