"""Examples come back as they went in."""

from pathlib import Path

import pytest

from vivace.domain import Example, Message
from vivace.errors import DataError
from vivace.store import read_examples, write_examples

ROWS = [
    Example("a", (Message("user", "Grüße 👋"), Message("assistant", "Hi", weight=0)), metadata={"intent": "greeting"}),
    Example("b", (Message("user", "x"), Message("assistant", "y")), split="test", source="f.jsonl:3"),
]


def test_examples_come_back_as_they_went_in(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    assert write_examples(path, ROWS) == 2
    assert list(read_examples(path)) == ROWS
    assert list(read_examples(path, "test")) == ROWS[1:]


def test_a_broken_row_is_named_by_its_line(tmp_path: Path) -> None:
    path = tmp_path / "examples.jsonl"
    write_examples(path, ROWS)
    with open(path, "a") as file:
        file.write('{"id": 3}\n')
    with pytest.raises(DataError, match="line 3"):
        list(read_examples(path))


def test_a_missing_dataset_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="vivace data"):
        list(read_examples(tmp_path / "none.jsonl"))
