"""What each step did: counts, reasons, samples before and after, and every row it dropped."""

from collections import Counter
from collections.abc import Callable
from typing import Any

from msgspec import Struct, field

from vivace.data.rows import Row
from vivace.domain import Example

MAX_SAMPLES = 5
MAX_SAMPLE_CHARS = 400


class Dropped(Struct, frozen=True):
    """A row that is not in the dataset, with the step that dropped it and why."""

    step: str
    reason: str
    detail: str
    held_out: bool
    id: str
    source: str
    row: Example


class Sample(Struct, frozen=True):
    """A text before and after a step."""

    id: str
    before: str
    after: str


class Counts(Struct):
    """What a step did to some rows, as it passes between processes."""

    rows_in: int = 0
    rows_out: int = 0
    rows_changed: int = 0
    changes: dict[str, int] = field(default_factory=dict)
    drops: dict[str, int] = field(default_factory=dict)
    samples: list[Sample] = field(default_factory=list)


class StepTrail:
    """One step's record; `changes` counts what it did, `rows_changed` the rows it did it to.

    Samples and details pass through `veil` before they are cut and kept, dropped rows through `redact`.
    """

    def __init__(
        self, name: str, veil: Callable[[str], str] = str, redact: Callable[[Example], Example] | None = None
    ) -> None:
        self.name = name
        self.rows_in = self.rows_out = self.rows_changed = 0
        self.changes: Counter[str] = Counter()
        self.drops: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self.dropped: list[Dropped] = []
        self._veil = veil
        self._redact = redact

    def fresh(self) -> "StepTrail":
        """Return an empty trail of the same step."""
        return StepTrail(self.name, self._veil, self._redact)

    def drop(self, row: Row, reason: str, detail: str = "") -> None:
        """Record that `row` leaves, for a `reason` that is counted and a `detail` that is not."""
        self.drops[reason] += 1
        example = self._redact(row.example) if self._redact else row.example
        told = self._veil(detail)
        self.dropped.append(Dropped(self.name, reason, told, row.held_out, example.id, example.source, example))

    def change(self, row: Row, counts: dict[str, int], before: str, after: str) -> None:
        """Record that `row` stays with changes; the first few are kept as samples."""
        self.rows_changed += 1
        self.changes.update(counts)
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append(Sample(row.example.id, *_around_difference(self._veil(before), self._veil(after))))

    def take_dropped(self) -> list[Dropped]:
        """Return the rows dropped since the last call."""
        dropped, self.dropped = self.dropped, []
        return dropped

    def take_counts(self) -> Counts:
        """Return what was counted since the last call."""
        counts = Counts(
            self.rows_in, self.rows_out, self.rows_changed, dict(self.changes), dict(self.drops), self.samples
        )
        self.rows_in = self.rows_out = self.rows_changed = 0
        self.changes, self.drops, self.samples = Counter(), Counter(), []
        return counts

    def add(self, counts: Counts) -> None:
        """Add what was counted elsewhere, later than all that is counted here."""
        self.rows_in += counts.rows_in
        self.rows_out += counts.rows_out
        self.rows_changed += counts.rows_changed
        self.changes.update(counts.changes)
        self.drops.update(counts.drops)
        self.samples = [*self.samples, *counts.samples][:MAX_SAMPLES]

    def summary(self) -> dict[str, Any]:
        """Return the record without the dropped rows, in a fixed order."""
        return {
            "step": self.name,
            "rows_in": self.rows_in,
            "rows_out": self.rows_out,
            "rows_changed": self.rows_changed,
            "changes": dict(sorted(self.changes.items())),
            "dropped": dict(sorted(self.drops.items())),
            "samples": [{"id": sample.id, "before": sample.before, "after": sample.after} for sample in self.samples],
        }


def _around_difference(before: str, after: str) -> tuple[str, str]:
    """Cut both texts to where they first differ."""
    same = next(
        (place for place, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), min(len(before), len(after))
    )
    start = max(0, same - 60)
    return before[start : start + MAX_SAMPLE_CHARS], after[start : start + MAX_SAMPLE_CHARS]
