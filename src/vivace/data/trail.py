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
    row: Example


class Sample(Struct, frozen=True):
    """A text before and after a step."""

    id: str
    before: str
    after: str


class StepTrail(Struct):
    """One step's record; `changes` counts what it did, `rows_changed` the rows it did it to.

    Samples pass through `veil` before they are cut and kept.
    """

    name: str
    rows_in: int = 0
    rows_out: int = 0
    rows_changed: int = 0
    changes: Counter[str] = field(default_factory=Counter)
    drops: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)
    veil: Callable[[str], str] = str

    def drop(self, row: Row, reason: str, detail: str = "") -> None:
        """Record that `row` leaves, for a `reason` that is counted and a `detail` that is not."""
        self.drops[reason] += 1
        self.dropped.append(Dropped(self.name, reason, detail, row.held_out, row.example))

    def change(self, row: Row, counts: dict[str, int], before: str, after: str) -> None:
        """Record that `row` stays with changes; the first few are kept as samples."""
        self.rows_changed += 1
        self.changes.update(counts)
        if len(self.samples) < MAX_SAMPLES:
            self.samples.append(Sample(row.example.id, *_around_difference(self.veil(before), self.veil(after))))

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
