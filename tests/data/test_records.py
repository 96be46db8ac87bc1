"""Files as records: the same rows out of every container, packed or not."""

import datetime
import gzip
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from tests.data.material import chat
from tests.data.sources import conversations, read, rejects, write
from vivace.data.reading import records
from vivace.data.reading.detection import choose_reader
from vivace.data.reading.records import Source
from vivace.data.rows import Reject
from vivace.errors import DataError

ROWS: list[dict[str, Any]] = [chat(f"Hi {n}", "Hello", id=f"r{n}") for n in range(3)]
JSONL = "".join(json.dumps(row) + "\n" for row in ROWS)


def arrow_stream(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)


def arrow_file(path: Path) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)


WRITERS: dict[str, Any] = {
    "jsonl": lambda path: path.write_text(JSONL),
    "jsonl with a byte order mark": lambda path: path.write_bytes(b"\xef\xbb\xbf" + JSONL.encode()),
    "jsonl in UTF-16": lambda path: path.write_bytes(JSONL.encode("utf-16")),
    "jsonl in UTF-16 without a mark": lambda path: path.write_bytes(JSONL.encode("utf-16-be")),
    "jsonl with mixed line ends": lambda path: path.write_text(JSONL.replace("\n", "\r\n", 1) + "\n\n"),
    "jsonl with old line ends": lambda path: path.write_text(JSONL.replace("\n", "\r")),
    "gzip": lambda path: path.write_bytes(gzip.compress(JSONL.encode())),
    "zstd": lambda path: path.write_bytes(zstandard.compress(JSONL.encode())),
    "zstd in frames": lambda path: path.write_bytes(b"".join(map(zstandard.compress, JSONL.encode().splitlines(True)))),
    "array": lambda path: path.write_text(json.dumps(ROWS)),
    "indented array": lambda path: path.write_text(json.dumps(ROWS, indent=2)),
    "array in an object": lambda path: path.write_text(json.dumps({"version": 1, "data": ROWS}, indent=1)),
    "packed array": lambda path: path.write_bytes(gzip.compress(json.dumps(ROWS).encode())),
    "parquet": lambda path: pq.write_table(pa.Table.from_pylist(ROWS), path, row_group_size=2),
    "arrow stream": arrow_stream,
    "arrow file": arrow_file,
}


@pytest.mark.parametrize("container", WRITERS)
def test_every_container_gives_the_same_conversations(tmp_path: Path, container: str) -> None:
    path = tmp_path / "rows.bin"
    WRITERS[container](path)
    assert choose_reader(path)[0] == "openai_chat"
    found = conversations(path)
    assert [(raw.own_id, raw.messages[0].content) for raw in found] == [("r0", "Hi 0"), ("r1", "Hi 1"), ("r2", "Hi 2")]
    assert [raw.metadata for raw in found] == [{}] * 3
    assert rejects(path) == []


def test_one_object_over_several_lines_is_one_row(tmp_path: Path) -> None:
    assert len(conversations(write(tmp_path / "a.json", json.dumps(ROWS[0], indent=2)))) == 1


def test_a_broken_item_of_an_array_costs_one_item(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", json.dumps([ROWS[0], 5, {"messages": "x"}, ROWS[1]]))
    assert [(reject.line, reject.reason) for reject in rejects(path)] == [
        (2, "not a JSON object"),
        (3, "no list `messages`"),
    ]


def test_a_torn_array_is_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"starts like one JSON value and is not.*JSON Lines"):
        read(write(tmp_path / "a.json", json.dumps(ROWS)[:-5]))


def test_a_whole_value_over_the_limit_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "MAX_WHOLE_BYTES", 100)
    with pytest.raises(DataError, match="which is read as a whole"):
        read(write(tmp_path / "a.json", json.dumps(ROWS)))


def test_times_numbers_and_bytes_of_parquet_become_json_values(tmp_path: Path) -> None:
    row = {"prompt": "Hi", "response": "Hello", "at": datetime.datetime(2026, 3, 1, 10), "raw": b"ab", "n": 2}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    (raw,) = conversations(tmp_path / "a.parquet")
    assert raw.metadata == {"at": "2026-03-01T10:00:00", "raw": "YWI=", "n": 2}


@pytest.mark.parametrize("cut", [10, 200, -3])
def test_a_torn_parquet_file_is_refused(tmp_path: Path, cut: int) -> None:
    pq.write_table(pa.Table.from_pylist(ROWS), tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:cut])
    with pytest.raises(DataError, match=r"a\.parquet cannot be read as Parquet"):
        read(tmp_path / "a.parquet")


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_torn_packed_file_says_where_it_breaks_off(tmp_path: Path, pack: Any) -> None:
    import random

    noise = random.Random(0)
    text = "".join(json.dumps(chat(f"{noise.random()}", f"{noise.random()}")) + "\n" for _ in range(8000))
    packed = pack(text.encode())
    with pytest.raises(DataError, match=r"is a damaged (gzip|zstd) file: it breaks off after line \d{3}"):
        read(write(tmp_path / "a.jsonl.packed", packed[: len(packed) // 2]))


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_zip_bomb_is_refused(tmp_path: Path, pack: Any) -> None:
    bomb = JSONL.encode() + b" " * (66 << 20)
    path = write(tmp_path / "a.jsonl.packed", pack(bomb))
    with pytest.raises(DataError, match=r"unpacks to more than 200 times its size.*decompress it yourself"):
        read(path)


def test_well_packed_rows_are_no_bomb(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl.gz", gzip.compress(JSONL.encode() * 50_000))
    assert len(path.read_bytes()) * 100 < len(JSONL) * 50_000
    assert sum(1 for _ in Source(path).lines) == 150_000


def test_the_columns_of_the_settings_rename_rows_of_any_container(tmp_path: Path) -> None:
    rows = [{"Frage": "Hi", "Antwort": "Hello", "question": "kept"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    (raw,) = conversations(tmp_path / "a.parquet", question="Frage", answer="Antwort")
    assert raw.messages[0].content == "Hi"
    assert raw.metadata == {"other_question": "kept"}


def test_rejects_of_binary_rows_show_them_as_json(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([*ROWS, {"messages": None, "id": "x"}]), tmp_path / "a.parquet")
    (reject,) = [item for item in read(tmp_path / "a.parquet") if isinstance(item, Reject)]
    assert json.loads(reject.text) == {"messages": None, "id": "x"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.csv", "a.txt", "a.parquet"])
def test_reading_keeps_no_rows_in_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    said = [f"Where is parcel {n}? " + "I wait. " * 100 for n in range(6000)]
    if name == "a.csv":
        turns = "".join(f'{n},customer,"{text}"\n{n},agent,Soon.\n' for n, text in enumerate(said))
        path.write_text("ticket_id,role,text\n" + turns)
    elif name == "a.txt":
        path.write_text("---\n".join(f"Customer: {text}\nAgent: Soon.\n" for text in said))
    elif name == "a.parquet":
        pq.write_table(pa.Table.from_pylist([chat(text, "Soon.") for text in said]), path, row_group_size=500)
    else:
        content = "".join(json.dumps(chat(text, "Soon.")) + "\n" for text in said).encode()
        path.write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    source = Source(path)
    _, reader = choose_reader(source)
    assert reader
    tracemalloc.start()
    try:
        assert sum(1 for _ in reader.read(source)) == 6000
        assert tracemalloc.get_traced_memory()[1] < 2_500_000  # the file holds five million characters
    finally:
        tracemalloc.stop()
