"""When requests arrive."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.bench.traffic.arrivals import constant, gamma, located, poisson, scheduled, trace
from vivace.config.settings import BenchSettings
from vivace.errors import ConfigError


def test_poisson_arrivals_come_at_the_rate_and_as_irregularly_as_they_should() -> None:
    gaps = np.diff([0.0, *poisson(5.0, 20_000, seed=1)])
    assert gaps.mean() == pytest.approx(0.2, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, rel=0.03)


@pytest.mark.parametrize("variation", [0.3, 1.0, 3.0])
def test_gamma_arrivals_have_the_variation_asked_for(variation: float) -> None:
    gaps = np.diff([0.0, *gamma(5.0, 50_000, 1, variation)])
    assert gaps.mean() == pytest.approx(0.2, rel=0.06)
    assert gaps.std() / gaps.mean() == pytest.approx(variation, rel=0.06)


@given(st.floats(0.01, 1000), st.integers(1, 50), st.integers(0, 99))
def test_arrivals_are_in_order_and_the_same_for_a_seed(rate: float, count: int, seed: int) -> None:
    offsets = poisson(rate, count, seed)
    assert len(offsets) == count
    assert offsets == sorted(offsets)
    assert offsets == poisson(rate, count, seed)
    assert offsets[0] > 0


@pytest.mark.parametrize("rate", [0.0, -1.0, math.nan, math.inf])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="rate"):
        poisson(rate, 3, 0)


def test_a_trace_starts_at_zero_and_is_put_in_order() -> None:
    assert trace([12.5, 10.0, 11.0]) == [0.0, 1.0, 2.5]
    with pytest.raises(ConfigError):
        trace([])


def test_even_arrivals_all_have_the_same_gap() -> None:
    assert constant(4.0, 4) == [0.0, 0.25, 0.5, 0.75]


def test_a_trace_is_stretched_to_a_rate_or_sped_up() -> None:
    assert trace([0.0, 1.0, 3.0], speed_up=2.0) == [0.0, 0.5, 1.5]
    assert trace([0.0, 1.0, 3.0], rate=4.0) == pytest.approx([0.0, 1 / 6, 0.5])  # two gaps in half a second
    assert trace([5.0, 5.0], rate=4.0) == [0.0, 0.0]


def test_the_settings_say_how_requests_arrive() -> None:
    gaps = np.diff(scheduled(BenchSettings(arrivals="gamma", variation=3.0), [], 30_000, 5.0))
    assert gaps.std() / gaps.mean() == pytest.approx(3.0, rel=0.1)
    gaps = np.diff(scheduled(BenchSettings(), [], 30_000, 5.0))
    assert gaps.std() / gaps.mean() == pytest.approx(1.0, rel=0.05)
    assert scheduled(BenchSettings(arrivals="constant"), [], 3, 2.0) == [0.0, 0.5, 1.0]


def test_a_trace_that_is_too_short_begins_anew_one_gap_later() -> None:
    settings = BenchSettings(arrivals="trace", trace="t.jsonl")
    assert scheduled(settings, [10.0, 11.0, 12.0], 5, None) == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert scheduled(settings, [10.0, 11.0, 12.0], 5, 2.0) == [0.0, 0.5, 1.0, 1.5, 2.0]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"arrivals": "trace"}, 'trace = ""'),
        ({"trace": "t.jsonl"}, 'arrivals = "poisson"'),
        ({"speed_up": 2.0}, "speed_up"),
        ({"speed_up": 2.0, "rate": 1.0, "trace": "t", "arrivals": "trace"}, "speed_up"),
    ],
)
def test_settings_that_contradict_themselves_are_refused(given: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        located(BenchSettings(**given), Path())


def test_a_trace_is_looked_for_beside_the_project() -> None:
    found = located(BenchSettings(arrivals="trace", trace="t.jsonl"), Path("project"))
    assert Path(found.trace) == Path("project/t.jsonl")
