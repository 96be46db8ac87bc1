"""Which files the settings name."""

from pathlib import Path

import pytest

from vivace.config.data import DataSettings
from vivace.data import input_files
from vivace.data.reading.files import conversation_files, label
from vivace.errors import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("x")


def test_names_patterns_and_folders_are_expanded_sorted_and_once(tmp_path: Path) -> None:
    touch(tmp_path, "b.jsonl", "a.jsonl", "test.jsonl", "docs/x.md", "docs/deep/y.TXT", "docs/z.png")
    settings = DataSettings(conversations=["*.jsonl", "a.jsonl"], test=["test.jsonl"], documents=["docs", "docs/x.md"])
    names = [path.relative_to(tmp_path).as_posix() for path in input_files(settings, tmp_path)]
    assert names == ["a.jsonl", "b.jsonl", "docs/deep/y.TXT", "docs/x.md", "test.jsonl"]


def test_a_file_that_both_name_is_held_out(tmp_path: Path) -> None:
    touch(tmp_path, "a.jsonl", "test.jsonl")
    conversations, test = conversation_files(DataSettings(conversations=["*.jsonl"], test=["test.jsonl"]), tmp_path)
    assert ([path.name for path in conversations], [path.name for path in test]) == (["a.jsonl"], ["test.jsonl"])
    with pytest.raises(DataError, match="nothing is left to learn from"):
        conversation_files(DataSettings(conversations=["test.jsonl"], test=["test.jsonl"]), tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"conversations": ["chts.jsonl"]},
            "is called or matches 'chts.jsonl'. Did you mean chats.jsonl",
        ),
        ({"conversations": ["*.csv"]}, "is called or matches '*.csv'"),
        ({"conversations": ["docs"]}, "The folder 'docs' has no conversations."),
        ({"conversations": ["chats.jsonl"], "documents": ["empty"]}, "folder 'empty' has no documents."),
        ({"conversations": []}, "No conversations are named."),
        (
            {"conversations": ["chats.jsonl"], "test": ["missing/x.jsonl"]},
            "test: no file is called",
        ),
    ],
)
def test_what_matches_nothing_is_refused_with_the_nearest(
    tmp_path: Path, settings: dict[str, list[str]], message: str
) -> None:
    touch(tmp_path, "chats.jsonl", "docs/a.md")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError) as caught:
        input_files(DataSettings.model_validate(settings), tmp_path)
    assert message in str(caught.value)


def test_labels_hold_no_machine_paths(tmp_path: Path) -> None:
    assert label(tmp_path / "data" / "a.jsonl", tmp_path) == "data/a.jsonl"
    assert label(Path("/somewhere/else/a.jsonl"), tmp_path) == "else/a.jsonl"
