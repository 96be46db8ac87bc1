"""Folders of the `datasets` library and lists of LLaMA-Factory: every file, with its split and its columns."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.material import chat, write_rows
from tests.data.sources import write
from vivace.config.data import DataSettings
from vivace.data import input_files, sniff
from vivace.data.reading.conversations import ConversationReader, FileReading
from vivace.data.reading.files import conversation_files, label
from vivace.data.rows import Row
from vivace.errors import ConfigError, DataError


def read(root: Path, **settings: Any) -> tuple[list[Row], list[FileReading]]:
    """Return the rows as `prepare` reads them."""
    chosen = DataSettings(steps=[], **settings)
    files, test = conversation_files(chosen, root)
    reader = ConversationReader(chosen)
    rows, readings = [], []
    for held_out, paths in ((False, files), (True, test)):
        for path in paths:
            readings.append(FileReading(path, label(path, root)))
            rows += list(reader.read(path, readings[-1], held_out=held_out))
    reader.refuse_unused_columns()
    return rows, readings


def first_words(rows: list[Row]) -> list[str]:
    return [row.example.messages[0].content for row in rows]


def test_a_folder_of_parquet_files_keeps_its_splits(tmp_path: Path) -> None:
    (tmp_path / "set" / "data").mkdir(parents=True)
    for name in ("train-00000-of-00002", "train-00001-of-00002", "validation-00000-of-00001", "test-00000-of-00001"):
        pq.write_table(pa.Table.from_pylist([chat(name, "Hello")]), tmp_path / "set" / "data" / f"{name}.parquet")
    write(tmp_path / "set" / "README.md", "# A set")
    rows, _ = read(tmp_path, conversations=["set"])
    assert [(row.held_out, row.example.metadata.get("split")) for row in rows] == [
        (False, None),
        (False, None),
        (False, "validation"),
        (True, None),
    ]
    assert rows[3].example.source == "set/data/test-00000-of-00001.parquet:1"


def test_a_folder_that_save_to_disk_wrote_is_read(tmp_path: Path) -> None:
    import datasets

    parts = {name: datasets.Dataset.from_list([chat(name, "Hello")]) for name in ("train", "test")}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "set")
    rows, readings = read(tmp_path, conversations=["set"])
    assert [(word, row.held_out) for word, row in zip(first_words(rows), rows, strict=True)] == [
        ("train", False),
        ("test", True),
    ]
    assert {reading.format for reading in readings} == {"openai_chat"}
    assert sniff([tmp_path / "set"]).rows == 1


def test_folders_of_json_lines_obey_names_of_files_and_folders(tmp_path: Path) -> None:
    for name in ("train.jsonl", "dev.jsonl.gz", "test/a.jsonl", "latest.jsonl"):
        write_rows(tmp_path / "set" / name, [chat(name, "Hello")])
    rows, _ = read(tmp_path, conversations=["set"])
    found = {row.example.messages[0].content: (row.held_out, row.example.metadata) for row in rows}
    assert found == {
        "train.jsonl": (False, {}),
        "dev.jsonl.gz": (False, {"split": "validation"}),
        "test/a.jsonl": (True, {}),
        "latest.jsonl": (False, {}),
    }


INFO: dict[str, Any] = {
    "plain": {"file_name": "plain.json"},
    "renamed": {"file_name": "renamed.jsonl", "columns": {"prompt": "frage", "query": None, "response": "antwort"}},
    "ranked": {"file_name": "ranked.jsonl", "ranking": True, "columns": {"prompt": "instruction", "chosen": "best"}},
    "talks": {
        "file_name": "sub/talks.json",
        "formatting": "sharegpt",
        "columns": {"messages": "turns"},
        "tags": {"role_tag": "who", "content_tag": "said", "user_tag": "kunde", "assistant_tag": "shop"},
    },
    "judged": {"file_name": "judged.jsonl", "columns": {"kto_tag": "kto"}},
    "far": {"hf_hub_url": "someone/far"},
    "gone": {"file_name": "gone.json"},
}


def listed(root: Path) -> Path:
    write(root / "plain.json", json.dumps([{"instruction": "Hi", "input": "you", "output": "Hello"}]))
    write_rows(root / "renamed.jsonl", [{"frage": "Wo?", "antwort": "Hier."}])
    write_rows(root / "ranked.jsonl", [{"instruction": "Where?", "best": "Here.", "rejected": "No."}])
    turns = [{"who": "kunde", "said": "Hallo"}, {"who": "shop", "said": "Guten Tag"}]
    write(root / "sub" / "talks.json", json.dumps([{"turns": turns}]))
    write_rows(root / "judged.jsonl", [{"instruction": "Hi", "output": "Hm", "kto": False}])
    return write(root / "dataset_info.json", json.dumps(INFO))


def test_llama_factorys_list_names_files_columns_and_tags(tmp_path: Path) -> None:
    listed(tmp_path / "lf")
    rows, (reading,) = read(tmp_path, conversations=["lf/dataset_info.json"])
    spoken = {row.example.source: [message.content for message in row.example.messages] for row in rows}
    assert spoken == {
        "lf/plain.json:1": ["Hi\nyou", "Hello"],
        "lf/renamed.jsonl:1": ["Wo?", "Hier."],
        "lf/ranked.jsonl:1": ["Where?", "Here."],
        "lf/sub/talks.json:1": ["Hallo", "Guten Tag"],
        "lf/judged.jsonl:1": ["Hi", "Hm"],
    }
    by_source = {row.example.source: row.example for row in rows}
    assert by_source["lf/ranked.jsonl:1"].rejected[0].content == "No."
    assert by_source["lf/judged.jsonl:1"].rating == 0.0
    assert [reject.reason for reject in reading.rejects] == [
        "dataset 'far' is on a hub, not in a file: download it and give its file_name",
        "dataset 'gone': there is no file gone.json",
    ]
    names = {path.name for path in input_files(DataSettings(conversations=["lf/dataset_info.json"]), tmp_path)}
    assert names == {"dataset_info.json", "plain.json", "renamed.jsonl", "ranked.jsonl", "talks.json", "judged.jsonl"}
    assert sniff([tmp_path / "lf" / "dataset_info.json"]).rows == 5


@pytest.mark.parametrize("content", ["[]", "{", '{"features": {}}', "\x00"])
def test_a_list_of_nothing_is_refused(tmp_path: Path, content: str) -> None:
    write(tmp_path / "dataset_info.json", content)
    with pytest.raises(DataError, match=r"dataset_info\.json (lists no datasets|is not valid JSON)"):
        read(tmp_path, conversations=["dataset_info.json"])


def test_format_and_columns_of_the_settings_are_obeyed(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", "query,question,Reply text\nx,Where?,Here.\n")
    columns = {"prompt": "question", "response": "Reply text"}
    rows, _ = read(tmp_path, conversations=["a.csv"], columns=columns, format="prompt_completion")
    assert [message.content for message in rows[0].example.messages] == ["Where?", "Here."]
    with pytest.raises(DataError, match="names 'Reply', and no file has such a column"):
        read(tmp_path, conversations=["a.csv"], columns={"prompt": "question", "response": "Reply text", "id": "Reply"})
    with pytest.raises(ConfigError, match=r"names 'promt', which no reader knows. Did you mean 'prompt'"):
        read(tmp_path, conversations=["a.csv"], columns={"promt": "question"})
    with pytest.raises(ConfigError, match=r"no reader 'alpacca'. Did you mean 'alpaca'"):
        read(tmp_path, conversations=["a.csv"], format="alpacca")
    with pytest.raises(DataError, match=r"1 of 1 lines cannot be read as alpaca. The first is line 2"):
        read(tmp_path, conversations=["a.csv"], format="alpaca")
