"""What was forgotten is told, and what was not is not claimed."""

import numpy as np
import pytest

from vivace.errors import DataError
from vivace.evaluate.general.forgetting import CHOICES, RIGHT, Results, changes, reasons, tell


def results(values, task=CHOICES, metric=RIGHT, **options):
    rows = tuple((float(value), 1.0) for value in values)
    return Results(task, metric, tuple(f"q{n}" for n in range(len(rows))), rows, **options)


def answers(count, right, seed=0):
    values = np.zeros(count)
    values[: round(right * count)] = 1
    return np.random.default_rng(seed).permutation(values)


BEFORE = answers(176, 0.6)


def lost(share, seed=1):
    """Return BEFORE with so many right answers, of all, made wrong."""
    after = BEFORE.copy()
    right = np.flatnonzero(after)
    after[np.random.default_rng(seed).choice(right, round(share * len(after)), replace=False)] = 0
    return after


def compared(after, before=BEFORE):
    return changes([results(before)], [results(after)], ("base", "tuned"), resamples=1000)


def test_a_loss_is_told_with_its_interval() -> None:
    (found,) = compared(lost(0.1))
    assert found.outcome == "forgot"
    assert found.difference == pytest.approx(-0.1, abs=0.005)
    assert found.interval.low < found.difference < found.interval.high < 0
    assert tell([found])[0].startswith("tuned forgot: general questions, right answers 0.602, then 0.50")


def test_no_change_says_what_could_have_been_missed() -> None:
    (found,) = compared(BEFORE)
    assert found.outcome == "noise"
    (mixed,) = compared(np.where(answers(176, 0.1, 7) == 1, 1 - BEFORE, BEFORE))
    assert mixed.outcome == "noise"
    assert 0.03 < mixed.detectable < 0.12
    assert "176 examples show a loss of" in tell([mixed])[0]


def test_a_gain_is_no_loss() -> None:
    (found,) = compared(BEFORE, lost(0.2))
    assert found.outcome == "gained"


def test_fewer_bits_are_better() -> None:
    before = Results("t", "bits per byte", ("a", "b", "c"), ((3.0, 1.0), (4.0, 2.0), (5.0, 2.0)), False, False)
    after = Results("t", "bits per byte", ("a", "b", "c"), ((2.0, 1.0), (3.0, 2.0), (4.0, 2.0)), False, False)
    (found,) = changes([before], [after], ("base", "tuned"), resamples=200)
    assert (found.before, found.after) == (pytest.approx(12 / 5), pytest.approx(9 / 5))
    assert found.difference == pytest.approx(3 / 5)
    assert reasons([found], 0.0) == []


def test_p_values_are_corrected_over_the_tasks_of_a_model() -> None:
    names = [f"task {n}" for n in range(12)]
    before = [results(BEFORE, name) for name in names]
    after = [results(lost(0.03 if n == 0 else 0.0), name) for n, name in enumerate(names)]
    found = changes(before, after, ("base", "tuned"), resamples=2000)
    assert found[0].p_value < 0.07
    assert found[0].p_adjusted == pytest.approx(min(1.0, 12 * found[0].p_value))
    assert found[0].outcome == "noise"


def test_other_examples_are_not_compared() -> None:
    with pytest.raises(DataError, match="asked different examples of general questions"):
        changes([results([1, 0, 1])], [results([1, 0])], ("base", "tuned"))


def test_a_task_that_only_one_was_asked_is_not_compared() -> None:
    assert changes([results([1, 0])], [results([1, 0], "other")], ("base", "tuned")) == []


def test_the_gate_refuses_a_shown_loss_beyond_the_threshold_only() -> None:
    (found,) = reasons(compared(lost(0.1)), 0.05)
    assert not found.met
    assert found.miss == pytest.approx(1.0, abs=0.1)
    assert "at most 5.0% forgotten in general questions, right answers" in found.requirement
    (allowed,) = reasons(compared(lost(0.1)), 0.2)
    assert allowed.met
    (unsure,) = reasons(compared(np.where(answers(176, 0.1, 7) == 1, 1 - BEFORE, BEFORE)), 0.01)
    assert unsure.met
    assert "cannot be excluded by 176 examples" in unsure.detail
