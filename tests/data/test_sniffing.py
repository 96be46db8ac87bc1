"""What `vivace init` learns about files."""

import gzip
from pathlib import Path

import pytest

from tests.data.material import distinct, write_rows
from vivace.config.data import DataSettings
from vivace.data import sniff
from vivace.data.reading import sniffing
from vivace.errors import DataError


def rows(count: int) -> list[object]:
    return [{**distinct(number), "metadata": {"customer": f"c{number % 5}"}} for number in range(count)]


def test_files_are_told_apart_counted_and_shown(tmp_path: Path) -> None:
    chats = write_rows(tmp_path / "chats.jsonl", rows(40))
    test = write_rows(tmp_path / "chats_test.jsonl", rows(4))
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A")
    found = sniff([chats, test, tmp_path / "docs"])
    assert found.formats == {str(chats): "openai_chat", str(test): "openai_chat", str(tmp_path / "docs"): "documents"}
    assert (found.rows, found.estimate, len(found.samples)) == (44, False, 3)
    assert found.samples[0].startswith("user: Hello")
    assert found.settings == {
        "conversations": [str(chats)],
        "test": [str(test)],
        "documents": [str(tmp_path / "docs")],
    }
    DataSettings.model_validate(found.settings)
    assert sniff([chats]).settings == {"conversations": [str(chats)], "group_by": "customer"}


def test_other_languages_are_suggested(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "Guten Tag, wo bleibt meine Bestellung? Die Ware sollte schon gestern ankommen."},
        {"role": "assistant", "content": "Es kommt heute."},
    ]
    found = sniff([write_rows(tmp_path / "a.jsonl", [{"messages": turns}] * 5)])
    assert found.settings["languages"] == ["de"]


@pytest.mark.parametrize("packed", [False, True])
def test_large_files_are_estimated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    monkeypatch.setattr(sniffing, "EXACT_BYTES", 1000)
    path = write_rows(tmp_path / "a.jsonl", rows(20_000))
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    found = sniff([path])
    assert found.estimate
    assert 12_000 < found.rows < 30_000


def test_a_missing_file_is_refused_with_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "here.jsonl").write_text("")
    with pytest.raises(DataError, match=r"There is no file .*gone\.jsonl.*here\.jsonl"):
        sniff([tmp_path / "gone.jsonl"])


def test_an_ambiguous_file_is_looked_at_as_the_settings_say(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("query,question,answer\nx,Where?,Here.\n")
    with pytest.raises(DataError, match="are ambiguous"):
        sniff([path])
    found = sniff([path], "prompt_completion", {"prompt": "question"})
    assert found.samples == ("user: Where?\nassistant: Here.",)
    settings = DataSettings.model_validate(found.settings)
    assert (settings.format, settings.columns) == ("prompt_completion", {"prompt": "question"})


@pytest.mark.parametrize(
    ("name", "text", "format"),
    [
        ("talk.txt", "Customer: Hi\nAgent: Hello\n", "transcript"),
        ("a.csv", "ticket_id,author,body\n1,Ann,Hi\n1,Bo,Hello\n", "message_table"),
        ("a.json", '[{"instruction": "Hi", "output": "Hello"}]', "alpaca"),
        ("notes.txt", "We open at nine.\n", "documents"),
    ],
)
def test_every_kind_of_file_is_named(tmp_path: Path, name: str, text: str, format: str) -> None:
    (tmp_path / name).write_text(text)
    found = sniff([tmp_path / name])
    assert list(found.formats.values()) == [format]
    assert found.samples == (() if format == "documents" else ("user: Hi\nassistant: Hello",))
