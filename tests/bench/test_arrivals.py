"""When requests arrive."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.bench.arrivals import gamma, poisson, trace
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
