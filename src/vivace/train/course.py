"""The course of a training run: history, validation, early stopping, what a checkpoint remembers."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import msgspec

from vivace.domain import Task
from vivace.store.files import append_line, read_journal, write_atomic
from vivace.train.estimates.estimate import Estimate


class Validated(msgspec.Struct, frozen=True):
    """What a validation found after a step."""

    step: int
    loss: float
    token_accuracy: float


class Course:
    """What happened so far; `history` is a journal that survives a crash.

    `metric` (loss or token_accuracy) tells which validations are better.
    """

    def __init__(
        self, history: Path, *, patience: int, milestones: tuple[int, ...], validates: bool, metric: str = "loss"
    ) -> None:
        self.history = history
        self.metric = metric
        self.patience = patience
        self.milestones = frozenset(milestones)
        self.validates = validates
        self.best_step: int | None = None
        self.best_loss: float | None = None
        self.best_accuracy: float | None = None
        self.validations: list[tuple[int, float, float]] = []
        self.worse_in_a_row = 0
        self.before: dict[str, float] = {}
        self.train_s = 0.0
        self.validate_s = 0.0
        self.stopped_early = False
        self.micro_batch = 0
        self.rolled_back = 0
        self.estimate: Estimate | None = None
        self._row: dict[str, Any] = {}
        self._more: dict[str, Any] = {}

    def notes(self) -> dict[str, Any]:
        """Return what a checkpoint has to remember of the course."""
        names = ("best_step", "best_loss", "best_accuracy", "worse_in_a_row", "before", "train_s", "validate_s")
        setbacks = ("micro_batch", "rolled_back")
        return {name: getattr(self, name) for name in (*names, "stopped_early", "validations", *setbacks)}

    def restore(self, notes: dict[str, Any], step: int) -> None:
        """Continue from a checkpoint's notes: rows of later steps are cut from the history, they come again."""
        for name, value in notes.items():
            setattr(self, name, value)
        rows = [row for row in self.rows() if row["step"] <= step]
        write_atomic(self.history, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))

    def restart(self) -> None:
        """Begin with an empty history."""
        write_atomic(self.history, b"")

    def rows(self) -> list[dict[str, Any]]:
        """Return the history so far."""
        return [msgspec.json.decode(line) for line in read_journal(self.history)]

    def stepped(self, row: dict[str, Any], *, validates_now: bool) -> None:
        """Take a step's row; where validation follows, it is written together with it."""
        self._row = row
        if not validates_now:
            self._write()

    def add(self, figures: dict[str, Any]) -> None:
        """Put more figures, or others of the same name, into the next row that is written."""
        self._more |= figures

    def validated(self, step: int, loss: float, accuracy: float) -> bool:
        """Take a validation result and return whether training should go on."""
        if not step:
            self.before = {"validation_loss": loss, "validation_token_accuracy": accuracy}
            self._row = {"step": 0, "tokens": 0}
        self._row |= {"validation_loss": loss, "validation_token_accuracy": accuracy}
        self._write()
        if not step:
            return True
        now = Validated(step, loss, accuracy)
        better = not self.validations or self.is_better(now, self.best(1)[0])
        self.validations.append(msgspec.structs.astuple(now))
        if better:
            self.best_step, self.best_loss, self.best_accuracy = step, loss, accuracy
            self.worse_in_a_row = 0
        else:
            self.worse_in_a_row += 1
        self.stopped_early = self.worse_in_a_row >= self.patience
        return not self.stopped_early

    def is_better(self, one: Validated, other: Validated) -> bool:
        """Tell whether one validation is better than another by the metric."""
        return one.loss < other.loss if self.metric == "loss" else one.token_accuracy > other.token_accuracy

    def best(self, count: int) -> list[Validated]:
        """Return the best validations, the best first; of equal ones the earlier."""
        found = [Validated(*values) for values in self.validations]
        sign = 1 if self.metric == "loss" else -1
        worth = {item.step: sign * (item.loss if self.metric == "loss" else item.token_accuracy) for item in found}
        return sorted(found, key=lambda item: (worth[item.step], item.step))[:count]

    def is_milestone(self, step: int) -> bool:
        """Tell whether this step is validated and kept."""
        return step in self.milestones

    def _write(self) -> None:
        append_line(self.history, msgspec.json.encode(self._row | self._more))
        self._row, self._more = {}, {}


def remark(task: Task, row: dict[str, Any], course: Course) -> None:
    """Show loss and token accuracy beside the bar, and how fast the run gets on."""
    parts = [f"loss {row['loss']:.3f}, token accuracy {row['token_accuracy']:.0%}"]
    if course.best_loss is not None:
        parts.append(f"validation loss {course.best_loss:.3f}")
    if course.estimate is not None:
        looked = bool(course.before) + len(course.validations)
        parts.append(course.estimate.remark(row["step"], row["tokens"], course.train_s, looked, course.validate_s))
    task.note(", ".join(part for part in parts if part))


class Interruption:
    """Whether the user has asked to stop; the step at hand is finished and kept before `KeyboardInterrupt` goes up."""

    def __init__(self) -> None:
        self.asked = False

    def look(self) -> bool:
        """Return whether the user has asked by now."""
        return self.asked

    def _ask(self, _number: int, _frame: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True


@contextmanager
def interruption(told: Interruption | None = None) -> Iterator[Interruption]:
    """Let Ctrl-C wait for the end of the step, once; a second one stops at once.

    `told` is a wish that comes from elsewhere: then Ctrl-C is left alone.
    """
    wish = told or Interruption()
    if told is not None or threading.current_thread() is not threading.main_thread():
        yield wish
        return
    before = signal.getsignal(signal.SIGINT)
    if before is not signal.default_int_handler:
        # Someone above has plans of their own for Ctrl-C.
        yield wish
        return
    signal.signal(signal.SIGINT, wish._ask)
    try:
        yield wish
    finally:
        signal.signal(signal.SIGINT, before)
