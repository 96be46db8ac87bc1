"""What `vivace init` learns about files."""

import gzip
from pathlib import Path

import pytest

from tests.data.material import distinct, write_rows
from vivace.config.settings import DataSettings
from vivace.data import sniff, sniffing
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
