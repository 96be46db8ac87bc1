"""Corrections lie over the data: the last word counts, for the content it was said of, and nothing gets lost."""

import json
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.labeled import row
from vivace.data.labels.corrections import Correction, Corrections, append_correction, read_corrections
from vivace.data.rows import Row
from vivace.errors import DataError


def correction(one: Row, value: str, field: str = "intent") -> Correction:
    return Correction(one.example.id, one.example.content_hash, field, value, by="ada", at="2026-11-21T10:00:00Z")


def test_the_last_correction_of_a_field_counts(tmp_path: Path) -> None:
    mine = row("Where is it?", "Here.", id="a", intent="refund", other=1)
    path = tmp_path / "labels.jsonl"
    for value in ("delivery", "return"):
        append_correction(path, correction(mine, value))
    append_correction(path, correction(mine, "resolved", "outcome"))
    corrections = read_corrections(path)
    assert corrections.apply(mine).example.metadata == {"intent": "return", "other": 1, "outcome": "resolved"}
    assert mine.example.metadata == {"intent": "refund", "other": 1}
    assert len(corrections) == 2
    assert corrections.summary() == {"applied": 2, "stale": [], "unmatched": [], "unreadable_lines": []}


def test_a_correction_of_other_content_is_stale_and_not_applied(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    append_correction(path, correction(row("Where is it?", "Here.", id="a"), "delivery"))
    corrections = read_corrections(path)
    changed = row("How much is it?", "Ten.", id="a", intent="price")
    assert corrections.apply(changed).example.metadata == {"intent": "price"}
    assert corrections.summary()["stale"] == ["a"]
    assert corrections.summary()["unmatched"] == []


def test_a_correction_without_its_row_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "labels.jsonl"
    append_correction(path, correction(row("Where is it?", "Here.", id="gone"), "delivery"))
    corrections = read_corrections(path)
    same = row("Other", "Answer", id="b")
    assert corrections.apply(same) is same
    assert corrections.summary()["unmatched"] == ["gone"]


def test_lines_that_are_no_corrections_are_set_aside_with_line_and_reason(tmp_path: Path) -> None:
    mine = row("Where is it?", "Here.", id="a")
    good = json.dumps(msgspec.to_builtins(correction(mine, "delivery")))
    path = tmp_path / "labels.jsonl"
    path.write_bytes(b'\xef\xbb\xbfnonsense\n\n{"id": "a"}\n[1]\n\xff\xfe\n' + good.encode() + b"\r\n")
    corrections = read_corrections(path)
    assert corrections.apply(mine).example.metadata["intent"] == "delivery"
    assert corrections.summary()["unreadable_lines"] == [1, 3, 4, 5]
    assert "content_hash" in corrections.rejects[1].reason
    assert corrections.rejects[0].text == "nonsense"


def test_no_file_is_no_corrections_and_a_folder_is_an_error(tmp_path: Path) -> None:
    assert len(read_corrections(tmp_path / "none.jsonl")) == 0
    with pytest.raises(DataError, match="cannot be read"):
        read_corrections(tmp_path)


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_an_error(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "labels.jsonl"
        path.write_bytes(content)
        read = read_corrections(path)
    assert len(read) + len(read.rejects) <= content.count(b"\n") + 1


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["intent", "topic"]), st.text(max_size=4)), max_size=12)
)
def test_the_last_of_each_row_and_field_wins_and_all_are_accounted_for(said: list[tuple[str, str, str]]) -> None:
    rows = {name: row("Where is it?", "Here.", id=name) for name in "ab"}
    hashed = rows["a"].example.content_hash
    corrections = Corrections([Correction(name, hashed, field, value) for name, field, value in said], [])
    for one in rows.values():
        told = corrections.apply(one).example.metadata
        assert told == {field: value for name, field, value in said if name == one.example.id}
    summary = corrections.summary()
    assert summary["applied"] == len({(name, field) for name, field, _value in said if name != "c"})
    assert summary["unmatched"] == (["c"] if any(name == "c" for name, _field, _value in said) else [])
