"""Preference rows: whose prompt, whose answer, which one was liked less."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.material import write_rows
from tests.data.sources import conversations, rejects, spoken
from vivace.data.reading.detection import choose_reader


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def agent(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Where?", "chosen": "Here.", "rejected": "No idea."},
        {"prompt": [user("Where?")], "chosen": [agent("Here.")], "rejected": [agent("No idea.")]},
        {"chosen": [user("Where?"), agent("Here.")], "rejected": [user("Where?"), agent("No idea.")]},
        {
            "prompt": "Where?",
            "chosen": [user("Where?"), agent("Here.")],
            "rejected": [user("Where?"), agent("No idea.")],
        },
        {"chosen": "\n\nHuman: Where?\n\nAssistant: Here.", "rejected": "\n\nHuman: Where?\n\nAssistant: No idea."},
        {"prompt": "\n\nHuman: Where?\n\nAssistant:", "chosen": " Here.", "rejected": " No idea."},
        {"instruction": "Where?", "input": "", "chosen": "Here.", "rejected": "No idea."},
        {
            "conversations": [{"from": "human", "value": "Where?"}],
            "chosen": {"from": "gpt", "value": "Here."},
            "rejected": {"from": "gpt", "value": "No idea."},
        },
        {
            "input": {"messages": [user("Where?")], "tools": [], "parallel_tool_calls": True},
            "preferred_output": [agent("Here.")],
            "non_preferred_output": [agent("No idea.")],
        },
    ],
)
def test_every_shape_gives_prompt_answer_and_the_one_liked_less(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{**row, "margin": 2}])
    assert choose_reader(path)[0] == "preference"
    (raw,) = conversations(path)
    assert [(role, text.strip()) for role, text in spoken(raw)] == [("user", "Where?"), ("assistant", "Here.")]
    assert [message.content.strip() for message in raw.rejected] == ["No idea."]
    assert raw.metadata["margin"] == 2


def test_shared_turns_are_the_prompt_and_system_stays_first(tmp_path: Path) -> None:
    shared = [user("Hi"), agent("Hello"), user("Where?")]
    row = {"system": "Be kind.", "chosen": [*shared, agent("Here.")], "rejected": [*shared, agent("No idea.")]}
    (raw,) = conversations(write_rows(tmp_path / "a.jsonl", [row]))
    assert [text for _, text in spoken(raw)] == ["Be kind.", "Hi", "Hello", "Where?", "Here."]
    assert [message.content for message in raw.rejected] == ["No idea."]


def test_rows_without_prompt_or_answer_are_set_aside(tmp_path: Path) -> None:
    rows = [
        {"prompt": "Where?", "chosen": "Here.", "rejected": "No idea."},
        {"chosen": "Here.", "rejected": "No idea."},
        {"prompt": "Where?", "chosen": "Here."},
        {"prompt": "Where?", "chosen": [], "rejected": []},
    ]
    assert [reject.reason for reject in rejects(write_rows(tmp_path / "a.jsonl", rows))] == [
        "no prompt: chosen and rejected do not begin with the same question",
        "the turns are not a list but NoneType",
        "chosen or rejected is no answer",
    ]
