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
        """Return what becomes of packed rows."""
        rows = [unpack(record) for record in records]
        drops: list[list[bytes]] = []
        for (name, step), trail in zip(self._steps, self._trails, strict=True):
            rows = _run(name, step, rows, trail)
            drops.append([encode_line(dropped) for dropped in trail.take_dropped()])
        if self._label:
            rows = [self._label(row) for row in rows]
        counts = [trail.take_counts() for trail in self._trails]
        return Cleaned([pack(row) for row in rows], self._sketcher.sketch(rows), counts, drops)


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


def _run(name: str, step: CleanRow, rows: list[Row], trail: StepTrail) -> list[Row]:
    trail.rows_in += len(rows)
    kept: list[Row] = []
    for row in rows:
        try:
            cleaned = step(row, trail)
        except VivaceError:
            raise
        except Exception as error:
            raise DataError(
                f"The step {name!r} failed on the row {row.example.id} ({row.example.source}): "
                f"{type(error).__name__}: {error}.",
                f"Set the row aside, or leave {name!r} out of `steps`.",
            ) from error
        if cleaned is not None:
            kept.append(cleaned)
    trail.rows_out += len(kept)
    return kept
