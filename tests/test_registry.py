"""Parts are found by name, and a wrong name is met with the nearest one."""

import pytest

from vivace.errors import ConfigError
from vivace.registry import Registry, nearest


def test_a_part_is_imported_when_it_is_asked_for() -> None:
    registry = Registry("metrics", {"dumps": "json:dumps", "broken": "no.such.module:x"})
    assert registry.load("dumps")([1]) == "[1]"
    assert registry.names() == ["dumps", "broken"]


def test_a_wrong_name_is_met_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match="no metrics 'dump'. Did you mean 'dumps'?"):
        Registry("metrics", {"dumps": "json:dumps"}).load("dump")


def test_a_name_far_from_all_is_met_with_the_list() -> None:
    assert nearest("xyz", ["lora", "full"]) == "Valid: full, lora."
