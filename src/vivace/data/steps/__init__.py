"""Cleaning steps: row by row, or over the whole corpus; each tells its trail what it did."""

from collections.abc import Callable

from msgspec import Struct

from vivace.config.data import DataSettings
from vivace.data.corpus import Corpus
from vivace.data.rows import Row
from vivace.data.trail import StepTrail
from vivace.registry import Registry

CleanRow = Callable[[Row, StepTrail], Row | None]
Sweep = Callable[[Corpus, StepTrail], None]


class RowStep(Struct, frozen=True):
    """A step that looks at one row at a time; `open` checks the settings and returns what cleans a row.

    That returns the row, another in its place, or None after `trail.drop`. It runs in several processes, so it must
    not depend on other rows.
    """

    open: Callable[[DataSettings], CleanRow]


class CorpusStep(Struct, frozen=True):
    """A step that looks at all rows; `open` checks the settings and returns what drops and annotates rows."""

    open: Callable[[DataSettings], Sweep]


STEPS = Registry(
    "step",
    {
        name: f"vivace.data.steps.{name}:STEP"
        for name in (
            "encoding",
            "whitespace",
            "signatures",
            "turns",
            "language",
            "quality",
            "personal",
            "exact_duplicates",
            "near_duplicates",
            "off_topic",
            "lowercase",
            "punctuation",
            "spelling",
            "stems",
            "lemmas",
        )
    },
)
