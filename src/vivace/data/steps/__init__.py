"""Cleaning steps: each takes the rows and returns those that stay, telling its trail what it did."""

from collections.abc import Callable

from vivace.config.settings import DataSettings
from vivace.data.rows import Row
from vivace.data.trail import StepTrail
from vivace.registry import Registry

Step = Callable[[list[Row], DataSettings, StepTrail], list[Row]]

STEPS = Registry(
    "step",
    {
        name: f"vivace.data.steps.{name}:clean"
        for name in ("encoding", "whitespace", "turns", "language", "personal", "exact_duplicates", "near_duplicates")
    },
)


def run_step(
    name: str, rows: list[Row], settings: DataSettings, veil: Callable[[str], str] = str
) -> tuple[list[Row], StepTrail]:
    """Run the step called `name` and return the rows that stay and the trail; samples pass through `veil`."""
    step: Step = STEPS.load(name)
    trail = StepTrail(name, rows_in=len(rows), veil=veil)
    rows = step(rows, settings, trail)
    trail.rows_out = len(rows)
    return rows, trail
