"""Temperature, calibration error, thresholds that keep their word."""

import numpy as np
import pytest

from vivace.models.encoders.intents import softmax
from vivace.train.intents.calibration import (
    calibration_error,
    fit_temperature,
    threshold_for_coverage,
    threshold_for_precision,
)


def drawn(count: int, heat: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits that are `heat` times too large, and labels drawn from what they should have been."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (count, 5))
    labels = np.array([rng.choice(5, p=shares) for shares in softmax(logits)])
    return logits * heat, labels


@pytest.mark.parametrize("heat", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_what_made_logits_too_sure(heat: float) -> None:
    logits, labels = drawn(4000, heat)
    assert fit_temperature(logits, labels) == pytest.approx(heat, rel=0.1)


def test_calibrated_guesses_have_a_smaller_error() -> None:
    logits, labels = drawn(4000, 3.0)
    errors = []
    for temperature in (1.0, fit_temperature(logits, labels)):
        shares = softmax(logits, temperature)
        errors.append(calibration_error(shares.max(axis=1), shares.argmax(axis=1) == labels))
    assert errors[0] > 0.15
    assert errors[1] < 0.03


def test_the_temperature_stays_sane_where_every_guess_is_right() -> None:
    logits = np.eye(4)[np.arange(48) % 4] * 2.0
    shares = softmax(logits, fit_temperature(logits, np.arange(48) % 4))
    assert 0.9 < shares.max() < 0.999


def test_the_calibration_error_is_the_gap_of_the_bins() -> None:
    # Ten guesses at 0.9 of which seven are right, ten at 0.5 of which five are: gaps of 0.2 and 0.
    confidence = [0.9] * 10 + [0.5] * 10
    right = [True] * 7 + [False] * 3 + [True] * 5 + [False] * 5
    assert calibration_error(confidence, right) == pytest.approx(0.1)


def test_a_promised_precision_is_kept_on_new_messages_nearly_always() -> None:
    promised = broken = 0
    for seed in range(60):
        rng = np.random.default_rng(seed)
        confidence = rng.uniform(0, 1, 1200)
        right = rng.uniform(0, 1, 1200) < confidence
        found = threshold_for_precision(confidence, right, 0.8)
        promised += found.kept
        # Messages above t are right with probability t to 1, (1 + t) / 2 on average.
        broken += found.kept and (1 + found.value) / 2 < 0.8
    assert promised >= 55
    assert broken <= 3


def test_nothing_is_cut_off_where_all_is_right_enough() -> None:
    rng = np.random.default_rng(0)
    found = threshold_for_precision(rng.uniform(0, 1, 500), np.ones(500, bool), 0.95)
    assert (found.value, found.kept, found.measured) == (0.0, True, 1.0)


def test_a_precision_that_cannot_be_promised_is_not_promised() -> None:
    found = threshold_for_precision(np.linspace(0.1, 0.9, 20), np.arange(20) >= 4, 0.95)
    assert not found.kept
    assert found.measured >= 0.95
    assert found.value == pytest.approx(np.linspace(0.1, 0.9, 20)[4])


def test_equal_confidences_are_answered_together_or_not_at_all() -> None:
    found = threshold_for_precision(np.array([0.9, 0.5, 0.5]), np.array([True, True, False]), 0.95)
    assert found.value == 0.9


def test_the_coverage_is_kept_on_new_messages() -> None:
    kept = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        found = threshold_for_coverage(rng.uniform(0, 1, 99), 0.9)
        kept.append(1 - found.value)
    assert 0.895 < np.mean(kept) < 0.915


def test_few_messages_cannot_cut_off_a_small_share() -> None:
    assert threshold_for_coverage(np.array([0.5, 0.6]), 0.95).value == 0.0
