"""The curve finds what was planted."""

import numpy as np
import pytest
from scipy.optimize import curve_fit

from tests.evaluate.scales.worlds import SIZES, TRUE
from vivace.evaluate.scales.curve import Curve, doubling, fit, heights, knees, unit_of

UNIT = unit_of(SIZES)


def test_planted_curves_are_recovered() -> None:
    rng = np.random.default_rng(0)
    true = np.stack([rng.uniform(0.3, 0.8, 200), rng.uniform(0.02, 0.2, 200), rng.uniform(0.2, 1.5, 200)], axis=1)
    found = fit(SIZES, heights(true, SIZES, UNIT), np.ones(6))
    assert np.abs(found - true).max() < 0.003


def test_the_fit_is_as_good_as_that_of_scipy() -> None:
    rng = np.random.default_rng(1)
    values = heights(TRUE[None], SIZES, UNIT) + rng.normal(0, 0.01, (20, 6))
    found = fit(SIZES, values, np.ones(6))

    def shape(x, limit, gain, exponent):
        return limit - gain * (x / UNIT) ** -exponent

    for row, ours in zip(values, found, strict=True):
        theirs, _ = curve_fit(shape, SIZES, row, p0=TRUE, bounds=([-9, 0, 0.05], [9, 9, 4]), maxfev=20_000)
        squares = [float(((row - shape(SIZES, *each)) ** 2).sum()) for each in (ours, theirs)]
        assert squares[0] <= squares[1] * 1.001


def test_the_limit_stays_below_the_best_there_is() -> None:
    values = np.array([[0.5, 0.6, 0.7, 0.8, 0.9, 0.99]])
    assert fit(SIZES, values, np.ones(6))[0, 0] > 1.05
    held = fit(SIZES, values, np.ones(6), ceiling=1.0)[0]
    assert held[0] <= 1.0 + 1e-9
    assert held[1] > 0


def test_what_does_not_rise_has_no_gain() -> None:
    found = fit(SIZES, np.array([[0.6, 0.6, 0.6, 0.6, 0.6, 0.6], [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]]), np.ones(6))
    assert found[:, 1] == pytest.approx([0.0, 0.0], abs=1e-12)
    assert found[:, 0] == pytest.approx([0.6, 0.65])


def test_at_the_knee_doubling_brings_what_was_asked() -> None:
    size = knees(TRUE[None], UNIT, 0.02)
    assert doubling(TRUE[None], size, UNIT)[0, 0] == pytest.approx(0.02)
    flat = knees(np.array([[0.6, 0.0, 1.0]]), UNIT, 0.02)
    assert flat[0] == 0.0


def test_a_curve_tells_its_heights() -> None:
    curve = Curve(0.6, 0.12, 0.6, UNIT)
    assert curve.at(np.array([UNIT])) == pytest.approx([0.48])
