"""Two versions of a dataset compared."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.material import chat, distinct, write_rows
from vivace.data.card.diff import DatasetDiff, compare_datasets
from vivace.data.card.diff_text import diff_markdown, diff_tables


def row(number: int, **changed: Any) -> dict[str, Any]:
    """Return a dataset row as the data stage writes it."""
    told = {"id": f"a:{number:03}", "source": f"a.jsonl:{number}", "content_hash": f"hash{number}", **distinct(number)}
    return {**told, "metadata": {"intent": "refund" if number % 2 else "delivery"}, **changed}


def drop(number: int, step: str, reason: str, detail: str = "") -> dict[str, Any]:
    found = row(number)
    told = {"step": step, "reason": reason, "detail": detail, "held_out": False}
    return {**told, "id": found["id"], "source": found["source"], "row": found}


def write_dataset(folder: Path, rows: list[dict[str, Any]], dropped: list[dict[str, Any]] = [], **report: Any) -> Path:  # noqa: B006
    write_rows(folder / "examples.jsonl", rows)
    write_rows(folder / "dropped.jsonl", dropped)
    write_rows(folder / "rejects.jsonl", [{"file": "a.jsonl", "line": 77, "reason": "not valid JSON", "text": '{"x'}])
    (folder / "report.json").write_text(json.dumps(report))
    return folder


@pytest.fixture
def diff(tmp_path: Path) -> DatasetDiff:
    before = [row(number) for number in range(10)] + [row(20, split="test"), row(21, split="test"), row(22)]
    after = [row(number) for number in range(2, 10)]
    after[0] = row(2, content_hash="other", messages=chat("New question?", "New answer.")["messages"])
    after[1] = row(3, messages=chat("Cleaned question", "Cleaned answer")["messages"])
    after[2] = row(4, metadata={"intent": "complaint"})
    after += [row(20), {**row(21), "id": "b:1", "content_hash": "zzz"}, {**row(22), "id": "c:022"}, row(30)]
    one = write_dataset(
        tmp_path / "one",
        before,
        dropped_by_reason={"language: language de": 3, "turns: empty": 1},
        settings={"min_turns": 2, "label": {"embedder": "minilm"}, "steps": ["turns"]},
    )
    other = write_dataset(
        tmp_path / "other",
        after,
        [drop(0, "near_duplicates", "near-duplicate", "0.91 like a:005")],
        dropped_by_reason={"language: language de": 3, "near_duplicates: near-duplicate": 1},
        settings={"min_turns": 3, "label": {"embedder": "hashing"}, "steps": ["turns"]},
    )
    return compare_datasets(one, other)


def test_rows_are_added_removed_changed_or_the_same(diff: DatasetDiff) -> None:
    assert diff.rows == (13, 12)
    assert (diff.added, diff.removed) == (2, 3)
    assert (diff.changed_source, diff.changed_cleaning, diff.relabeled, diff.renamed) == (1, 1, 1, 1)
    assert diff.unchanged == 5
    assert diff.removed_because == {"not in the sources": 2, "near_duplicates: near-duplicate": 1}


def test_a_held_out_row_that_is_learned_from_is_a_warning(diff: DatasetDiff) -> None:
    assert diff.moves == {"test → train": 1}
    assert diff.leaked == 2, "one moved, one came back with the same text under another id"
    assert diff.warnings == [
        "2 held-out conversations are in the training split of the other version: scores on both do not compare."
    ]
    assert [change.id for change in diff.samples["leaked"]] == ["a:020", "a:021"]


def test_counts_reasons_and_settings_that_differ_are_listed(diff: DatasetDiff) -> None:
    assert diff.counts["split"] == {"test": (2, 0), "train": (11, 12)}
    assert diff.counts["intent"]["complaint"] == (0, 1)
    assert diff.dropped == {"near_duplicates: near-duplicate": (0, 1), "turns: empty": (1, 0)}
    assert diff.settings == {"label.embedder": ("minilm", "hashing"), "min_turns": (2, 3)}


def test_samples_show_both_texts(diff: DatasetDiff) -> None:
    (changed,) = diff.samples["changed_source"]
    assert "New answer." in changed.after
    assert "New answer." not in changed.before
    assert diff.samples["relabeled"][0].note == "intent: 'delivery' → 'complaint'"
    assert diff.samples["added"][0].before == ""


def test_the_page_names_what_changed_and_holds_any_text(diff: DatasetDiff) -> None:
    page = diff_markdown(diff, "v1", "v2")
    assert page.startswith("# v1 → v2\n")
    assert "**Warning:** 2 held-out" in page
    assert "| added | 2 |" in page
    assert "| min\\_turns | 2 | 3 |" in page
    assert [table.title for table in diff_tables(diff)][:2] == ["Conversations", "Why conversations are gone"]


def test_a_dataset_compared_with_itself_has_no_difference(tmp_path: Path) -> None:
    one = write_dataset(tmp_path / "one", [row(number) for number in range(5)])
    diff = compare_datasets(one, one)
    assert diff.unchanged == 5
    assert (diff.added, diff.removed, diff.leaked, diff.moves, diff.counts, diff.samples) == (0, 0, 0, {}, {}, {})


def test_an_empty_dataset_compares(tmp_path: Path) -> None:
    empty = write_dataset(tmp_path / "empty", [])
    full = write_dataset(tmp_path / "full", [row(1)])
    assert compare_datasets(empty, full).added == 1
    assert compare_datasets(full, empty).removed == 1
