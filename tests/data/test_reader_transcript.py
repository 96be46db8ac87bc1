"""Plain transcripts: who speaks, where a conversation ends."""

from pathlib import Path

import pytest

from tests.data.sources import conversations, rejects, spoken, write
from vivace.data.reading.detection import choose_reader
from vivace.errors import DataError

TWO = [
    [("user", "Where is my order?\nIt is late."), ("assistant", "On its way: tomorrow.")],
    [("user", "Hi"), ("assistant", "Hello")],
]


@pytest.mark.parametrize("between", ["---", "\nConversation 12\n", "\n=== Chat 12 ===", "\n# Ticket #12"])
def test_several_conversations_stand_in_one_file(tmp_path: Path, between: str) -> None:
    text = (
        f"Customer: Where is my order?\nIt is late.\nAgent: On its way: tomorrow.\n{between}\nClient: Hi\nBot: Hello\n"
    )
    path = write(tmp_path / "a.txt", text)
    assert choose_reader(path)[0] == "transcript"
    found = conversations(path)
    assert [spoken(raw) for raw in found] == TWO
    assert found[1].own_id == ("12" if "12" in between else "")
    assert rejects(path) == []


@pytest.mark.parametrize(
    "form", ["[10:0{0}] {1}: {2}", "10:0{0}:07 {1}: {2}", "(10:0{0} AM) {1}: {2}", "2026-03-01, 10:0{0} - {1}: {2}"]
)
def test_times_are_kept_and_the_one_who_opens_is_the_customer(tmp_path: Path, form: str) -> None:
    turns = [("Ann", "Where is it?"), ("Bo Berg", "On its way."), ("Ann", "Thanks")]
    text = "\n".join(form.format(place, name, said) for place, (name, said) in enumerate(turns))
    (raw,) = conversations(write(tmp_path / "a.txt", text))
    assert spoken(raw) == [("user", "Where is it?"), ("assistant", "On its way."), ("user", "Thanks")]
    assert len(raw.metadata["message_time"]) == 3
    assert "10:01" in raw.metadata["message_time"][1]


def test_roles_in_names_count(tmp_path: Path) -> None:
    (raw,) = conversations(
        write(tmp_path / "a.txt", "Agent Smith: Hello, how can I help?\nAnn (Customer): Where is it?\n")
    )
    assert [role for role, _ in spoken(raw)] == ["assistant", "user"]


def test_text_before_the_first_turn_is_set_aside(tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "Exported on Monday\n\nCustomer: Hi\nAgent: Hello\nNote: call back\n")
    assert [(reject.line, reject.reason) for reject in rejects(path)] == [(1, "text before the first turn")]
    assert spoken(conversations(path)[0])[1] == ("assistant", "Hello\nNote: call back")


def test_prose_is_no_transcript(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="in no known format"):
        choose_reader(write(tmp_path / "a.txt", "# Returns\n\nNote: keep the box.\nPrice: 5\nYou have 30 days.\n"))


def test_a_conversation_without_end_is_set_aside_not_kept(tmp_path: Path) -> None:
    text = "Customer: Hi\nAgent: Hello\n---\nCustomer: Hi\n" + "Agent: " + "x" * 500 + "\n"
    path = write(tmp_path / "a.txt", text + ("Agent: " + "x" * 500 + "\n") * 3000)
    assert len(conversations(path)) == 1
    assert rejects(path)[0].reason == "a conversation of more than 1 MiB"


def test_a_table_that_quotes_a_transcript_in_a_cell_is_a_table(tmp_path: Path) -> None:
    quoted = '"I wrote:\nCustomer: where is it\nAgent: on its way\nand then nothing"'
    lines = [
        "conversation_id,role,content",
        f"1,user,{quoted}",
        "1,assistant,Sorry.",
        *["2,user,Hi", "2,assistant,Yo"] * 4,
    ]
    path = tmp_path / "desk.csv"
    path.write_text("\n".join(lines) + "\n")
    assert choose_reader(path)[0] == "message_table"
