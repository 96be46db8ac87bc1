"""Parts are found by name, and a wrong name is met with the nearest one."""

import shutil
from pathlib import Path

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


def test_other_packages_are_looked_through_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "theirs-1.dist-info").mkdir()
    (tmp_path / "theirs-1.dist-info" / "METADATA").write_text("Name: theirs\nVersion: 1\n")
    (tmp_path / "theirs-1.dist-info" / "entry_points.txt").write_text("[vivace.metrics]\nours = json:loads\n")
    monkeypatch.syspath_prepend(tmp_path)
    registry = Registry("metrics", {"dumps": "json:dumps"})
    assert registry.names() == ["dumps", "ours"]
    shutil.rmtree(tmp_path / "theirs-1.dist-info")
    assert registry.load("ours")("[1]") == [1]
    assert registry.names() == ["dumps", "ours"]
