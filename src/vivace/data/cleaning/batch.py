"""Clean a batch of rows: what one process does between taking rows and giving them back."""

from collections.abc import Callable
from functools import partial

from msgspec import Struct

from vivace.config.data import DataSettings
from vivace.data.corpus import Sketches
from vivace.data.corpus.corpus import pack, unpack
from vivace.data.corpus.sketches import Sketcher
from vivace.data.labels.row_labels import labeler
from vivace.data.privacy.redaction import Redactor, veil
from vivace.data.rows import Row
from vivace.data.steps import STEPS, CleanRow, RowStep
from vivace.data.trail import Counts, StepTrail
from vivace.domain import Example
from vivace.errors import ConfigError, DataError, VivaceError
from vivace.store.rows import encode_line

MAX_ROUNDS = 3


class Plan(Struct, frozen=True):
    """Which steps a process runs, one after another; the last pass also labels."""

    settings: DataSettings
    steps: tuple[str, ...]
    label: bool


class Cleaned(Struct, frozen=True):
    """What became of a batch: packed rows, their sketches, and for each step its counts and dropped rows (JSON)."""

    rows: list[bytes]
    sketches: Sketches
    counts: list[Counts]
    drops: list[list[bytes]]


class Cleaner:
    """Runs the steps of a plan over batch after batch; raises `ConfigError` for settings that a step refuses."""

    def __init__(self, plan: Plan) -> None:
        self._steps = [(name, open_row_step(name, plan.settings)) for name in plan.steps]
        self._sketcher = Sketcher(plan.settings.near_duplicate_threshold)
        self._label = labeler(plan.settings) if plan.label else None
        redactor = Redactor(plan.settings) if "personal" in plan.settings.steps else None
        self._trails = [new_trail(name, redactor) for name in plan.steps]

    def clean(self, records: list[bytes]) -> Cleaned:
        """Return what becomes of packed rows.

        A row that a step has changed goes through all steps again, until none changes it: two turns that were joined
        may end in a signature that neither had, and what was cleaned must not change when it is cleaned again.
        """
        rows: list[Row | None] = [unpack(record) for record in records]
        drops: list[list[bytes]] = [[] for _ in self._steps]
        again = self._first_round(rows, drops)
        for _ in range(MAX_ROUNDS):
            again = [place for place in again if self._changes_again(rows, place, drops)]
        kept = [row for row in rows if row is not None]
        if self._label:
            kept = [self._label(row) for row in kept]
        counts = [trail.take_counts() for trail in self._trails]
        return Cleaned([pack(row) for row in kept], self._sketcher.sketch(kept), counts, drops)

    def _first_round(self, rows: list[Row | None], drops: list[list[bytes]]) -> list[int]:
        """Run every step over the rows, and return the places of those that were changed and stay."""
        changed: set[int] = set()
        for (name, step), trail, lines in zip(self._steps, self._trails, drops, strict=True):
            for place, row in enumerate(rows):
                if row is None:
                    continue
                trail.rows_in += 1
                cleaned = rows[place] = _run(name, step, row, trail)
                trail.rows_out += cleaned is not None
                if cleaned is not row:
                    changed.add(place)
            lines += map(encode_line, trail.take_dropped())
        return sorted(place for place in changed if rows[place] is not None)

    def _changes_again(self, rows: list[Row | None], place: int, drops: list[list[bytes]]) -> bool:
        """Run every step over one row again; what they do is counted only where they do something."""
        before = row = rows[place]
        for number, (name, step) in enumerate(self._steps):
            if row is None:
                break
            trail = self._trails[number].fresh()
            cleaned = _run(name, step, row, trail)
            if cleaned is not row:
                drops[number] += map(encode_line, trail.take_dropped())
                self._trails[number].add(trail.take_counts())
            if cleaned is None:
                self._withdraw(number)
            row = cleaned
        rows[place] = row
        return row is not None and row is not before

    def _withdraw(self, number: int) -> None:
        """Count a row that left at a step in a later round as if it had left there in the first."""
        self._trails[number].rows_out -= 1
        for trail in self._trails[number + 1 :]:
            trail.rows_in -= 1
            trail.rows_out -= 1


def open_row_step(name: str, settings: DataSettings) -> CleanRow:
    """Return what the row step called `name` does to a row."""
    step = STEPS.load(name)
    if not isinstance(step, RowStep):
        raise ConfigError(f"The step {name!r} is no row step.")
    return step.open(settings)


def new_trail(name: str, redactor: Redactor | None) -> StepTrail:
    """Return an empty trail whose samples are veiled and whose dropped rows are redacted."""
    if redactor is None:
        return StepTrail(name)
    return StepTrail(name, veil=partial(veil, redactor=redactor), redact=_redact_with(redactor))


def _redact_with(redactor: Redactor) -> Callable[[Example], Example]:
    return lambda example: redactor.conversation().example(example)


def _run(name: str, step: CleanRow, row: Row, trail: StepTrail) -> Row | None:
    try:
        return step(row, trail)
    except VivaceError:
        raise
    except Exception as error:
        raise DataError(
            f"The step {name!r} failed on the row {row.example.id} ({row.example.source}): "
            f"{type(error).__name__}: {error}.",
            f"Set the row aside, or leave {name!r} out of `steps`.",
        ) from error
