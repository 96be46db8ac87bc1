"""One message a row: help-desk exports, in any order, with notes and names."""

import json
from pathlib import Path

from tests.data.sources import conversations, rejects, spoken, write
from vivace.data.reading.detection import choose_reader


def test_the_one_who_opens_a_ticket_is_the_customer(tmp_path: Path) -> None:
    text = (
        "Ticket ID,Author,Created At,Body\n"
        "1,Ann Lee,2026-03-01T10:00:00Z,Where is it?\n"
        "1,Bo Berg,2026-03-01T10:05:00Z,On its way.\n"
        "1,Ann Lee,2026-03-01T10:06:00Z,Thanks\n"
        "2,Bo Berg,2026-03-01T11:00:00Z,I need help myself.\n"
        "2,Cy Support,2026-03-01T11:05:00Z,Gladly.\n"
    )
    path = write(tmp_path / "tickets.csv", text)
    assert choose_reader(path)[0] == "message_table"
    first, second = conversations(path)
    assert spoken(first) == [("user", "Where is it?"), ("assistant", "On its way."), ("user", "Thanks")]
    assert [role for role, _ in spoken(second)] == ["user", "assistant"]


def test_a_role_column_wins_over_names_and_direction(tmp_path: Path) -> None:
    text = "ticket_id,author,author_role,direction,body\n1,Bo,agent,inbound,Hello?\n1,Ann,end-user,outbound,Hi\n"
    (raw,) = conversations(write(tmp_path / "a.csv", text))
    assert spoken(raw) == [("assistant", "Hello?"), ("user", "Hi")]
    assert raw.metadata["author"] == ["Bo", "Ann"]


def test_the_direction_tells_who_speaks(tmp_path: Path) -> None:
    text = "ticket_id;from;direction;body\n1;ann@a.example;Inbound;Hello?\n1;help@b.example;outbound;Hi\n"
    (raw,) = conversations(write(tmp_path / "a.csv", text))
    assert spoken(raw) == [("user", "Hello?"), ("assistant", "Hi")]
    text = "ticket_id,incoming,body\n1,true,Hello?\n1,false,Hi\n1,maybe,x\n"
    path = write(tmp_path / "b.csv", text)
    assert spoken(conversations(path)[0]) == [("user", "Hello?"), ("assistant", "Hi")]
    assert rejects(path)[0].reason.startswith("incoming is 'maybe'; known: 0, 1, false, in")


def test_private_notes_are_set_aside_with_the_reason(tmp_path: Path) -> None:
    text = "ticket_id,author,private,body\n1,Ann,false,Where?\n1,Bo,true,rude again\n1,Bo,false,Here.\n"
    path = write(tmp_path / "a.csv", text)
    assert spoken(conversations(path)[0]) == [("user", "Where?"), ("assistant", "Here.")]
    assert [(reject.line, reject.reason) for reject in rejects(path)] == [(3, "private note")]
    text = "ticket_id,author,type,body\n1,Ann,comment,Where?\n1,Bo,internal_note,rude again\n1,Bo,comment,Here.\n"
    assert [reject.line for reject in rejects(write(tmp_path / "b.csv", text))] == [3]
    text = "ticket_id,author,public,body\n1,Ann,true,Where?\n1,Bo,false,rude again\n1,Bo,true,Here.\n"
    assert [reject.line for reject in rejects(write(tmp_path / "c.csv", text))] == [3]


def test_messages_in_json_lines_are_read_like_a_table(tmp_path: Path) -> None:
    rows = [
        {"conversation_id": 1, "role": "customer", "text": "Where?", "turn": 1},
        {"conversation_id": 2, "role": "customer", "text": "Hi", "turn": 1},
        {"conversation_id": 1, "role": "agent", "text": "Here.", "turn": 2},
        {"conversation_id": None, "role": "agent", "text": "Lost", "turn": 2},
        {"conversation_id": 2, "role": "robot", "text": "Beep", "turn": 2},
    ]
    path = write(tmp_path / "a.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    assert [(raw.own_id, len(raw.messages)) for raw in conversations(path)] == [("2", 1), ("1", 2)]
    assert [reject.reason.split(";")[0] for reject in rejects(path)] == ["no conversation_id", "role is 'robot'"]
