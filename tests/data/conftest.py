"""What the tests of the data stage share."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from vivace.config.data import DataSettings
from vivace.data import prepare
from vivace.domain import Example, SilentProgress, Workspace
from vivace.store.rows import read_examples


class Prepared:
    """A run of `prepare`: its facts and what it wrote."""

    def __init__(self, out: Path, facts: dict[str, Any]) -> None:
        self.out = out
        self.facts = facts

    def lines(self, name: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.out / f"{name}.jsonl").read_text().splitlines()]

    @property
    def examples(self) -> list[Example]:
        return list(read_examples(self.out / "examples.jsonl"))

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.out / "report.json").read_text())
        return found

    def texts(self) -> list[list[str]]:
        return [[message.content for message in example.messages] for example in self.examples]


Run = Callable[..., Prepared]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Prepare the files of `tmp_path`; a folder for each run."""
    count = 0

    def go(**settings: Any) -> Prepared:
        nonlocal count
        count += 1
        out = tmp_path / f"out{count}"
        out.mkdir()
        workspace = Workspace(out, out, SilentProgress())
        return Prepared(out, prepare(DataSettings(**settings), tmp_path, workspace))

    return go
