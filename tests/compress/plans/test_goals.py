"""Goals as people type them."""

import pytest

from vivace.compress.plans.goals import Goals, read_goals
from vivace.errors import ConfigError


def test_goals_are_read_as_they_are_typed() -> None:
    assert read_goals(["size<60MB"]) == Goals(max_size_bytes=60_000_000)
    assert read_goals(["size <= 0.5 gb", "parameters<70M"], 3, 0.95) == Goals(500_000_000, 70_000_000, 3, 0.95)
    assert read_goals(["size<60MB", "SIZE<50MB"]).max_size_bytes == 50_000_000  # the tighter one
    assert read_goals([]) == Goals()
    assert read_goals(["size<60MB"], 2).told() == "at least 99% of the quality, 2x the speed, at most 60 MB"


@pytest.mark.parametrize("budget", ["", "60MB", "size>60MB", "size<sixty", "size<60", "weight<60MB", "parameters<70MB"])
def test_what_is_no_budget_is_refused_with_an_example(budget: str) -> None:
    with pytest.raises(ConfigError, match="size<60MB"):
        read_goals([budget])


@pytest.mark.parametrize(("speedup", "quality"), [(0.5, 0.9), (float("nan"), 0.9), (2, 0), (2, 1.5), (2, float("nan"))])
def test_impossible_goals_are_refused(speedup: float, quality: float) -> None:
    with pytest.raises(ConfigError):
        read_goals([], speedup, quality)
