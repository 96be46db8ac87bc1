"""A project begins from a user's own files, and never writes over one that is there."""

import json
from pathlib import Path

import pytest

from vivace.config import load
from vivace.errors import ConfigError, DataError
from vivace.loop.start import start_project

ROW = json.dumps({"messages": [{"role": "user", "content": "Hi there"}, {"role": "assistant", "content": "Hello!"}]})


def test_the_files_are_looked_at_and_named_relative_to_the_project(tmp_path: Path) -> None:
    chats = tmp_path / "export" / "chats.jsonl"
    chats.parent.mkdir()
    chats.write_text(ROW + "\n")
    target, found = start_project(tmp_path / "shop", [chats], [], system="Be kind.", max_conversations=5)
    settings = load(target)
    assert settings.project.name == "shop"
    assert settings.project.system == "Be kind."
    assert settings.data.conversations == ["../export/chats.jsonl"]
    assert settings.data.max_conversations == 5
    assert found.rows == 1
    assert "Hello!" in found.samples[0]


def test_an_existing_file_is_kept_unless_asked_otherwise(tmp_path: Path) -> None:
    (tmp_path / "chats.jsonl").write_text(ROW + "\n")
    (tmp_path / "vivace.toml").write_text("# mine\n")
    with pytest.raises(ConfigError, match="--force"):
        start_project(tmp_path, [tmp_path / "chats.jsonl"], [])
    assert (tmp_path / "vivace.toml").read_text() == "# mine\n"
    start_project(tmp_path, [tmp_path / "chats.jsonl"], [], force=True)
    assert load(tmp_path / "vivace.toml").data.conversations == ["chats.jsonl"]


def test_a_missing_file_is_named_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no .*none.jsonl"):
        start_project(tmp_path / "shop", [tmp_path / "none.jsonl"], [])
    assert not (tmp_path / "shop").exists()


def test_columns_that_cannot_be_told_are_named_once_and_kept(tmp_path: Path) -> None:
    table = tmp_path / "chats.csv"
    table.write_text("Query,Reply text\nWhere is it?,There.\n")
    with pytest.raises(DataError, match="no known format"):
        start_project(tmp_path / "p", [table], [])
    columns = {"question": "Query", "answer": "Reply text"}
    target, found = start_project(tmp_path / "p", [table], [], columns=columns, format="prompt_completion")
    settings = load(target).data
    assert (settings.columns, settings.format) == (columns, "prompt_completion")
    assert "There." in found.samples[0]
