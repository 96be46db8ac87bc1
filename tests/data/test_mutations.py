"""Damaged files of every format: a typed error or a reading whose counts are right, never a crash."""

import contextlib
import gzip
import io
import json
import random
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.material import chat
from vivace.config.data import DataSettings
from vivace.data.documents.reading import read_documents
from vivace.data.reading import lines
from vivace.data.reading.conversations import ConversationReader, FileReading
from vivace.data.reading.records import Source
from vivace.data.rows import Reject
from vivace.errors import DataError

CHATS = [chat(f"Where is parcel {n}?", "On its way.", intent="tracking", id=f"c{n}") for n in range(6)]


def jsonl(*rows: object) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def parquet(rows: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


def arrow(rows: list[dict[str, object]]) -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


ANSWER = CHATS[0]["messages"][1]
TURNS = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
FILES: dict[str, bytes] = {
    "chats.jsonl": jsonl(*CHATS),
    "chats.jsonl.gz": gzip.compress(jsonl(*CHATS), mtime=0),
    "chats.jsonl.zst": zstandard.compress(jsonl(*CHATS)),
    "array.json": json.dumps(CHATS, indent=1).encode(),
    "rewards.jsonl": jsonl(*[{"messages": row["messages"][:1], "completion": "Yes.", "reward": 1.0} for row in CHATS]),
    "share.jsonl": jsonl(*[{"conversations": TURNS, "system": "Be kind."}] * 5),
    "alpaca.json": json.dumps(
        [{"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]]}] * 4
    ).encode(),
    "pairs.jsonl": jsonl(*[{"query": "a", "response": "b", "history": [["c", "d"]], "label": True}] * 5),
    "preferences.jsonl": jsonl(*[{"prompt": "a", "chosen": "b", "rejected": "c"}] * 4),
    "pairs_openai.jsonl": jsonl(
        *[
            {
                "input": {"messages": CHATS[0]["messages"][:1]},
                "preferred_output": [ANSWER],
                "non_preferred_output": [ANSWER],
            }
        ]
        * 4
    ),
    "intents.jsonl": jsonl(*[{"text": f"hi {n}", "intent": "greeting"} for n in range(5)]),
    "tickets.csv": b'ticket_id,author,created_at,body\n1,Ann,2026-01-01,"Hi, all"\n1,Bo,2026-01-02,Hello\n2,C,,x\n',
    "exchanges.tsv": b"prompt\tresponse\nHi\tHello\nBye\tGoodbye\nHm\tYes\n",
    "talk.txt": b"[10:01] Customer: Hi\n[10:02] Agent: Hello\n---\nCustomer: x\nAgent: y\n\nChat 3\nBot: w\n",
    "chats.parquet": parquet(CHATS),
    "chats.arrow": arrow(CHATS),
    "dataset_info.json": json.dumps({"a": {"file_name": "intents.jsonl", "columns": {"prompt": "text"}}}).encode(),
    "kb.jsonl": jsonl(*[{"doc_id": f"d{n}", "title": "T", "text": "Some text."} for n in range(4)]),
    "page.md": b"---\ntitle: Returns\n---\n# Returns\n\nSend it back.\n",
}
TYPES: list[object] = [None, 5, -1.5, True, "x", [], {}, [[]], {"a": {}}, ["x"], 1e308, 2**70, "\u0000", "\U0001f600"]
PACKERS: list[Callable[[bytes], bytes]] = [gzip.compress, zstandard.compress]
Mutation = Callable[[bytes, random.Random], bytes]


def torn(content: bytes, noise: random.Random) -> bytes:
    return content[: noise.randrange(len(content) + 1)]


def flipped(content: bytes, noise: random.Random) -> bytes:
    changed = bytearray(content)
    for _ in range(noise.choice([1, 1, 3, 20])):
        changed[noise.randrange(len(changed))] ^= 1 << noise.randrange(8)
    return bytes(changed)


def other_types(content: bytes, noise: random.Random) -> bytes:
    """Put something else in the place of a value somewhere in a JSON row."""
    rows = content.decode(errors="replace").splitlines()
    place = noise.randrange(len(rows))
    try:
        row = json.loads(rows[place])
    except ValueError:
        return content.replace(b'"', noise.choice([b"'", b"", b'""']), noise.randrange(1, 9))
    rows[place] = json.dumps(_changed(row, noise))
    return "\n".join(rows).encode() + b"\n"


def _changed(value: object, noise: random.Random) -> object:
    if isinstance(value, dict) and value and noise.random() < 0.8:
        key = noise.choice(sorted(value))
        return {**value, key: _changed(value[key], noise)}
    if isinstance(value, list) and value and noise.random() < 0.8:
        place = noise.randrange(len(value))
        return [*value[:place], _changed(value[place], noise), *value[place + 1 :]]
    return noise.choice(TYPES)


def utf16(content: bytes, noise: random.Random) -> bytes:
    return content.decode(errors="replace").encode(noise.choice(["utf-16", "utf-16-le", "utf-16-be", "utf-32"]))


def with_zeros(content: bytes, noise: random.Random) -> bytes:
    place = noise.randrange(len(content) + 1)
    return content[:place] + b"\x00" * noise.choice([1, 7, 4096]) + content[place:]


def other_line_ends(content: bytes, noise: random.Random) -> bytes:
    ends = [b"\r\n", b"\r", b"\n\n", b"\n", b"\x0b", "\u2028".encode()]
    return b"".join(line + noise.choice(ends) for line in content.split(b"\n"))


def huge_line(content: bytes, noise: random.Random) -> bytes:
    place = content.find(b"\n", noise.randrange(len(content))) + 1
    return content[:place] + noise.choice([b"x", b'{"messages": "', b" ", b'"', b"["]) * 9000 + b"\n" + content[place:]


def deep(content: bytes, noise: random.Random) -> bytes:
    depth = noise.choice([70, 900, 20_000])
    start, end = noise.choice([(b"[", b"]"), (b'{"a":', b"}"), (b'{"messages":[', b"]}")])
    return noise.choice([content, b""]) + start * depth + b"1" + end * depth + b"\n" + content


def bomb(content: bytes, noise: random.Random) -> bytes:
    return noise.choice(PACKERS)(content + noise.choice([b" ", b"\n", b"x", b"["]) * (1 << 20))


def packed_and_torn(content: bytes, noise: random.Random) -> bytes:
    return torn(noise.choice(PACKERS)(content), noise)


def marked(content: bytes, noise: random.Random) -> bytes:
    return (
        noise.choice([b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff", b"\x1f\x8b", zstandard.FRAME_HEADER, b"PAR1"])
        + content
    )


def emptied(content: bytes, noise: random.Random) -> bytes:
    return noise.choice([b"", b"\n", b" \r\n\t", b"\xef\xbb\xbf", b"\x00", b"[]", b"{}", b"[", b"{", b"null", b","])


def mixed(content: bytes, noise: random.Random) -> bytes:
    return content + noise.choice(list(FILES.values()))


MUTATIONS: list[Mutation] = [
    torn, flipped, other_types, utf16, with_zeros, other_line_ends, huge_line, deep, bomb, packed_and_torn, marked,
    emptied, mixed,
]  # fmt: skip


def read_bytes(folder: Path, name: str, content: bytes) -> None:
    """Read a file as conversations and as documents; anything but `DataError` gets out."""
    path = folder / name
    path.write_bytes(content)
    reading = FileReading(path, name)
    with contextlib.suppress(DataError):
        rows = list(ConversationReader(DataSettings(steps=[])).read(path, reading))
        assert len(rows) == reading.conversations
        if reading.format not in ("empty", "transcript", "message_table") and Source(path).kind == "json_lines":
            filled = sum(line is None or bool(line.strip()) for _, line in Source(path).lines)
            assert len(rows) + len(reading.rejects) == filled, f"{filled} lines"
    rejects: dict[str, list[Reject]] = {}
    with contextlib.suppress(DataError):
        assert list(read_documents([path], folder, rejects)) or rejects


def mutate(folder: Path, cases: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    # limits small enough that damaged files of some kilobytes go over them
    monkeypatch.setattr(lines, "MAX_LINE_BYTES", 8192)
    monkeypatch.setattr("vivace.data.reading.unpacking.MAX_SMALL_BYTES", 1 << 18)
    (folder / "intents.jsonl").write_bytes(FILES["intents.jsonl"])
    names = list(FILES)
    for case in range(cases):
        noise = random.Random(seed + case)
        name = names[case % len(names)]
        content = FILES[name]
        for mutation in noise.sample(MUTATIONS, noise.choice([1, 1, 1, 2])):
            content = mutation(content, noise) if content else content
        # the converter of PDF and web pages has tests of its own; a wrong ending must not matter to all others
        ending = noise.choice([name, name, "odd.jsonl", "odd.csv", "odd.txt", "odd.parquet", "odd.gz"])
        try:
            read_bytes(folder, ending, content)
        except Exception as error:
            raise AssertionError(f"case {seed + case}: {name} as {ending}: {content[:300]!r}") from error


def test_300_damaged_files_give_typed_errors_or_right_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mutate(tmp_path, 300, 1, monkeypatch)


@pytest.mark.slow
def test_5000_damaged_files_give_typed_errors_or_right_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = time.monotonic()
    mutate(tmp_path, 5000, 1000, monkeypatch)
    assert time.monotonic() - started < 240  # a minute on an idle machine: no case may hang


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=400), st.sampled_from(["a.jsonl", "a.csv", "a.parquet", "dataset_info.json"]))
def test_no_bytes_whatever_crash_a_reader(tmp_path: Path, content: bytes, name: str) -> None:
    read_bytes(tmp_path, name, content)


WORDS = [*'{}[]",:|\t\n -', "messages", "role", "user", "content", "Customer", "10:03", "prompt"]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(WORDS), max_size=60))
def test_no_text_of_marks_and_known_words_crashes_a_reader(tmp_path: Path, words: list[str]) -> None:
    read_bytes(tmp_path, "a.txt", "".join(words).encode())
