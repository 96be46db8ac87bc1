"""History without gaps or repeats, and when to stop."""

import json
import os
import signal
from pathlib import Path

import pytest

from vivace.train.course import Course, interruption


def course(path: Path, patience: int = 2) -> Course:
    made = Course(path / "history.jsonl", patience=patience, milestones=(2, 4, 6, 8), validates=True)
    made.restart()
    return made


def step(it: Course, number: int, loss: float | None = None) -> bool:
    it.stepped({"step": number, "tokens": 10 * number, "loss": 1.0}, validates_now=loss is not None)
    return True if loss is None else it.validated(number, loss, 0.5)


def test_a_validated_step_is_one_row_with_both_losses(tmp_path: Path) -> None:
    it = course(tmp_path)
    it.validated(0, 3.0, 0.1)
    step(it, 1)
    step(it, 2, 2.5)
    assert it.rows() == [
        {"step": 0, "tokens": 0, "validation_loss": 3.0, "validation_token_accuracy": 0.1},
        {"step": 1, "tokens": 10, "loss": 1.0},
        {"step": 2, "tokens": 20, "loss": 1.0, "validation_loss": 2.5, "validation_token_accuracy": 0.5},
    ]


def test_training_stops_after_so_many_validations_without_a_better_one(tmp_path: Path) -> None:
    it = course(tmp_path)
    assert [step(it, number, loss) for number, loss in ((2, 2.0), (4, 2.1), (6, 1.9), (8, 1.9))] == [True] * 4
    assert not step(it, 10, 2.0)
    assert (it.best_step, it.best_loss, it.stopped_early) == (6, 1.9, True)


def test_token_accuracy_can_tell_the_best_and_when_to_stop(tmp_path: Path) -> None:
    it = Course(
        tmp_path / "history.jsonl", patience=2, milestones=(2, 4, 6, 8), validates=True, metric="token_accuracy"
    )
    it.restart()
    went_on = []
    for number, loss, accuracy in ((2, 2.0, 0.5), (4, 2.5, 0.6), (6, 1.0, 0.6), (8, 0.9, 0.55)):
        it.stepped({"step": number}, validates_now=True)
        went_on.append(it.validated(number, loss, accuracy))
    assert went_on == [True, True, True, False]
    assert (it.best_step, it.best_loss, it.best_accuracy) == (4, 2.5, 0.6)
    assert [found.step for found in it.best(3)] == [4, 6, 8]


def test_the_best_validations_are_remembered_with_a_checkpoint(tmp_path: Path) -> None:
    it = course(tmp_path)
    for number, loss in ((2, 2.0), (4, 2.1), (6, 1.9)):
        step(it, number, loss)
    again = course_of_same_file(tmp_path)
    again.restore(json.loads(json.dumps(it.notes())), 6)
    assert [found.step for found in again.best(2)] == [6, 2]
    assert again.best(9) == it.best(9)


def test_what_came_after_a_checkpoint_is_cut_when_training_continues(tmp_path: Path) -> None:
    it = course(tmp_path)
    it.validated(0, 3.0, 0.1)
    step(it, 1)
    step(it, 2, 2.5)
    notes = it.notes()
    step(it, 3)
    again = course_of_same_file(tmp_path)
    again.restore(notes, 2)
    step(again, 3)
    assert [row["step"] for row in again.rows()] == [0, 1, 2, 3]
    assert (again.best_step, again.before["validation_loss"]) == (2, 3.0)


def course_of_same_file(path: Path) -> Course:
    return Course(path / "history.jsonl", patience=2, milestones=(2, 4), validates=True)


def test_the_first_ctrl_c_waits_for_the_step_and_the_second_does_not() -> None:
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with interruption() as wish:
            os.kill(os.getpid(), signal.SIGINT)
            assert wish.asked
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_someone_elses_plan_for_ctrl_c_is_left_alone() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: seen.append(number))
    try:
        with interruption() as wish:
            os.kill(os.getpid(), signal.SIGINT)
        assert (seen, wish.asked) == ([signal.SIGINT], False)
    finally:
        signal.signal(signal.SIGINT, before)
