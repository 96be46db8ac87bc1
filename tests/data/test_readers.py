"""Readers: every shape of file, told by its content, and broken lines set aside."""

import csv
import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.data.material import chat, write_rows
from tests.data.sources import conversations, read, rejects, spoken, write
from vivace.data.readers import READERS
from vivace.data.reading.detection import choose_reader
from vivace.data.rows import Raw, Reject
from vivace.errors import DataError


def test_every_registered_reader_has_a_file_of_its_name() -> None:
    import vivace.data.readers as package

    folder = Path(package.__file__ or "").parent
    assert all((folder / f"{name}.py").is_file() for name in READERS.names())


def test_the_format_is_told_by_content_not_by_name(tmp_path: Path) -> None:
    assert choose_reader(write(tmp_path / "a.csv", json.dumps(chat("Hi", "Hello"))))[0] == "openai_chat"
    assert choose_reader(write(tmp_path / "b.jsonl", "prompt,response\nHi,Hello\n"))[0] == "prompt_completion"
    assert choose_reader(write(tmp_path / "c.txt", "ticket_id\tauthor\tbody\n1\tcustomer\tHi\n"))[0] == "message_table"


def test_a_gzip_file_reads_like_a_plain_one_whatever_its_name(tmp_path: Path) -> None:
    plain = write_rows(tmp_path / "plain.jsonl", [chat("Hi", "Hello")])
    packed = write(tmp_path / "packed.jsonl", gzip.compress(plain.read_bytes()))
    assert conversations(plain) == conversations(packed)


def test_a_torn_gzip_file_is_named_with_the_line_it_breaks_off_at(tmp_path: Path) -> None:
    content = gzip.compress("".join(json.dumps(chat(f"Hi {n}", "x" * 50)) + "\n" for n in range(5000)).encode())
    path = write(tmp_path / "torn.jsonl.gz", content[: len(content) // 2])
    with pytest.raises(DataError, match=r"torn\.jsonl\.gz is a damaged gzip file: it breaks off after line \d+"):
        read(path)


def test_tool_calls_weights_tools_and_other_keys_survive(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "track", "arguments": '{"n": 1}'}}
    row: dict[str, Any] = {
        "id": "t-1",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Where"}, {"type": "text", "text": "is it?"}]},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "{}"},
            {"role": "assistant", "content": "On its way.", "weight": 0, "sent_at": "12:00"},
        ],
        "tools": [{"type": "function", "function": {"name": "track"}}],
        "metadata": {"intent": "tracking"},
        "channel": "chat",
    }
    (raw,) = conversations(write_rows(tmp_path / "a.jsonl", [row]))
    assert raw.own_id == "t-1"
    assert raw.messages[0].content == "Where\nis it?"
    assert raw.messages[1].tool_calls[0].function.name == "track"
    assert raw.messages[1].content == ""
    assert raw.messages[2].tool_call_id == "c1"
    assert raw.messages[3].weight == 0
    assert raw.tools == (row["tools"][0],)
    assert raw.metadata == {"intent": "tracking", "channel": "chat", "message_sent_at": [None, None, None, "12:00"]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"messages": [', "not valid JSON"),
        ("[1, 2]", "not a JSON object"),
        ('{"prompt": "Hi"}', "no list `messages`"),
        ('{"messages": ["Hi"]}', "message 1 is not an object"),
        ('{"messages": [{"role": "moderator", "content": "Hi"}]}', "message 1 has the role 'moderator'"),
        ('{"messages": [{"role": "user", "content": 5}]}', "content that is neither text"),
        ('{"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}', "a part of type 'image_url'"),
        ('{"messages": [{"role": "user", "content": "Hi", "weight": "1"}]}', "the weight '1'"),
        ('{"messages": [{"role": "assistant", "tool_calls": [{}]}]}', "a tool call without a function name"),
        ("[" * 100_000, "not valid JSON"),
    ],
)
def test_a_broken_line_says_what_is_wrong(tmp_path: Path, line: str, reason: str) -> None:
    path = write_rows(tmp_path / "a.jsonl", [chat("Hi", "Hello"), line])
    (reject,) = rejects(path)
    assert reason in reject.reason
    assert reject.line == 2


def test_broken_lines_are_set_aside_with_line_and_text(tmp_path: Path) -> None:
    path = write_rows(tmp_path / "a.jsonl", [chat("Hi", "Hello"), '{"messages": ', chat("Bye", "Goodbye"), "", "null"])
    assert [(reject.line, reject.text) for reject in rejects(path)] == [(2, '{"messages": '), (5, "null")]
    assert len(conversations(path)) == 2


@pytest.mark.parametrize(
    "header", ["conversation_id,role,content", "Ticket ID,Author,Body", "thread,sender,text", "TICKET;Speaker;Message"]
)
def test_a_message_table_is_read_by_any_of_its_column_names(tmp_path: Path, header: str) -> None:
    mark = ";" if ";" in header else ","
    rows = [("7", "Customer", "Where is it?"), ("7", "AGENT", "On its way."), ("8", "client", "Hi")]
    text = "\n".join([header, *(mark.join(row) for row in rows)])
    found = conversations(write(tmp_path / "a.csv", "\ufeff" + text + "\r\n"))
    assert [(raw.own_id, spoken(raw)) for raw in found] == [
        ("7", [("user", "Where is it?"), ("assistant", "On its way.")]),
        ("8", [("user", "Hi")]),
    ]


def test_rows_of_a_conversation_may_stand_apart_and_newest_first(tmp_path: Path) -> None:
    text = (
        "ticket_id,author,text,created_at,plan\n"
        "1,agent,third,2026-01-01T10:02:00Z,gold\n"
        "2,customer,other,2026-01-01T09:00:00Z,free\n"
        "1,customer,second,2026-01-01T10:01:00+00:00,gold\n"
        "1,customer,first,2026-01-01T10:00:00,gold\n"
    )
    _other, first = conversations(write(tmp_path / "a.csv", text))  # in the order in which they end
    assert [message.content for message in first.messages] == ["first", "second", "third"]
    assert first.metadata["plan"] == "gold"
    assert len(first.metadata["created_at"]) == 3


def test_an_exchange_table_makes_a_conversation_of_each_row(tmp_path: Path) -> None:
    (raw,) = conversations(write(tmp_path / "a.tsv", "Question\tAnswer\tintent\nWhere?\tHere.\ttracking\n"))
    assert spoken(raw) == [("user", "Where?"), ("assistant", "Here.")]
    assert raw.metadata == {"intent": "tracking"}


def test_exchanges_of_one_conversation_are_its_turns(tmp_path: Path) -> None:
    text = "conversation_id,prompt,response\n1,a,b\n2,x,y\n1,c,d\n"
    second, first = conversations(write(tmp_path / "a.csv", text))
    assert [message.content for message in first.messages] == ["a", "b", "c", "d"]
    assert len(second.messages) == 2


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("id,name,price", "it has the columns id, name, price"),
        ("ticket_id,thread_id,author,body", "'ticket_id' and 'thread_id' could each be `conversation_id`"),
        ("conversation_id,role,text,prompt,response", "could be prompt_completion or message_table"),
        ("input,question,output", "'question' and 'input' could each be `prompt`"),
    ],
)
def test_missing_or_ambiguous_columns_are_refused_with_what_is_needed(
    tmp_path: Path, header: str, message: str
) -> None:
    path = write(tmp_path / "odd.csv", header + "\n1,2,3,4,5\n")
    with pytest.raises(DataError) as caught:
        choose_reader(path)
    assert message in str(caught.value)
    assert "odd.csv" in str(caught.value)


def test_an_unknown_json_shape_names_the_keys_found_and_needed(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        choose_reader(write(tmp_path / "a.jsonl", '{"sentences": []}\n'))
    assert "the keys sentences" in str(caught.value)
    assert "`messages`" in str(caught.value)


def test_a_stray_quotation_mark_costs_one_line_not_the_rest(tmp_path: Path) -> None:
    text = 'prompt,response\na,b\n"c,d\ne,f\n"two\n\nparagraphs","g ""h"""\n'
    items = read(write(tmp_path / "a.csv", text))
    assert [item.line for item in items if isinstance(item, Reject)] == [3]
    assert [spoken(item)[0][1] for item in items if isinstance(item, Raw)] == ["a", "e", "two\n\nparagraphs"]


def test_columns_of_the_same_name_are_told_apart(tmp_path: Path) -> None:
    (raw,) = conversations(write(tmp_path / "a.csv", "prompt,response,note,note\na,b,c,d\n"))
    assert raw.metadata == {"note": "c", "note_2": "d"}


def test_thousands_of_broken_table_rows_do_not_exhaust_the_stack(tmp_path: Path) -> None:
    text = "prompt,response\n" + "a,b,c\n" * 20_000 + '"open\n' * 50
    assert sum(isinstance(item, Reject) for item in read(write(tmp_path / "a.csv", text))) == 20_050


def test_windows_1252_and_utf_16_are_read(tmp_path: Path) -> None:
    text = "prompt,response\nIs it 5 €?,Yes – “really”\n"
    for encoding in ("cp1252", "utf-16"):
        (raw,) = conversations(write(tmp_path / f"{encoding}.csv", text.encode(encoding)))
        assert spoken(raw)[1][1] == "Yes – “really”"


def test_a_line_without_end_is_set_aside_without_being_kept_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(json.dumps(chat("Hi", "Hello")).encode() + b"\n" + b"x" * (40 << 20) + b"\n")
    with path.open("ab") as file:
        file.write(json.dumps(chat("Bye", "Goodbye")).encode() + b"\n")
    items = read(path)
    assert [type(item) for item in items] == [Raw, Reject, Raw]


CELL = st.text(st.characters(codec="utf-8", exclude_characters="\r\x00"), max_size=30)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELL.filter(str.strip), CELL), min_size=1, max_size=8), st.sampled_from(",\t;|"))
def test_any_table_that_csv_writes_is_read_back(tmp_path: Path, rows: list[tuple[str, str]], delimiter: str) -> None:
    written = io.StringIO()
    csv.writer(written, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(
        [("prompt", "response"), *rows]
    )
    found = conversations(write(tmp_path / "a.csv", written.getvalue()))
    assert [tuple(message.content for message in raw.messages) for raw in found] == rows
