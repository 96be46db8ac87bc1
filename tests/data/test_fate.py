"""What became of a row."""

from pathlib import Path

import pytest

from tests.data.test_diff import drop, row, write_dataset
from vivace.data.card.fate import fate
from vivace.errors import DataError


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    child = row(90, id="a:001-noise-1", metadata={"synthetic": True, "origin": "a:001"})
    rows = [row(1), row(2, split="test"), child]
    dropped = [drop(5, "exact_duplicates", "exact duplicate", "the same as a:002"), drop(6, "language", "language de")]
    steps = [{"step": "encoding", "samples": [{"id": "a:001", "before": "It&#39;s", "after": "It's"}]}]
    return write_dataset(tmp_path / "dataset", rows, dropped, steps=steps)


def test_a_kept_row_tells_its_split_labels_changes_and_children(dataset: Path) -> None:
    found = fate(dataset, "a:001")
    assert (found.outcome, found.split, found.labels["intent"]) == ("kept", "train", "refund")
    assert found.changes[0].step == "encoding"
    assert [child.id for child in found.children] == ["a:001-noise-1"]
    assert found.sentence == "a:001 (a.jsonl:1) is in examples.jsonl, split train."
    child = fate(dataset, "noise-1")
    assert child.made_from is not None
    assert child.made_from.id == "a:001"


def test_a_dropped_row_tells_the_step_and_what_it_was_a_duplicate_of(dataset: Path) -> None:
    found = fate(dataset, "a.jsonl:5")
    assert (found.id, found.outcome, found.step, found.reason) == (
        "a:005",
        "dropped",
        "exact_duplicates",
        "exact duplicate",
    )
    assert found.duplicate_of is not None
    assert found.duplicate_of.id == "a:002"
    assert found.duplicate_of.text == fate(dataset, "a:002").text != ""


def test_a_line_that_could_not_be_read_is_found_by_file_and_line(dataset: Path) -> None:
    found = fate(dataset, "a.jsonl:77")
    assert (found.outcome, found.reason, found.text) == ("rejected", "not valid JSON", '{"x')


def test_a_part_of_an_id_is_enough_when_only_one_row_has_it(dataset: Path) -> None:
    assert fate(dataset, "006").id == "a:006"
    with pytest.raises(DataError, match=r"part of 5 ids.*'a:001'"):
        fate(dataset, "a:0")


def test_no_such_row_names_the_nearest(dataset: Path) -> None:
    with pytest.raises(DataError, match=r"There is no row 'a:003'.*Did you mean.*'a:00"):
        fate(dataset, "a:003")
    with pytest.raises(DataError, match=r"Did you mean 'a.jsonl:77'"):
        fate(dataset, "a.jsonl:79")
    with pytest.raises(DataError, match="no dataset"):
        fate(dataset / "nothing", "x")


def test_a_row_taken_out_of_training_names_the_test_row_it_repeats(tmp_path: Path) -> None:
    leak = drop(7, "split", "contamination", "near_duplicate 0.85 of test a:002")
    found = fate(write_dataset(tmp_path, [row(2, split="test")], [leak]), "a:007")
    assert found.duplicate_of is not None
    assert found.duplicate_of.text != ""
    assert found.sentence.endswith("was dropped by split: contamination (near_duplicate 0.85 of test a:002).")
