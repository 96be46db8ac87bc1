"""ShareGPT rows and their variants."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.data.material import write_rows
from tests.data.sources import conversations, rejects, spoken
from vivace.data.reading.detection import choose_reader

TURNS = [{"from": "human", "value": "Where is it?"}, {"from": "gpt", "value": "On its way."}]
SPOKEN = [("user", "Where is it?"), ("assistant", "On its way.")]


@pytest.mark.parametrize(
    "row",
    [
        {"conversations": TURNS},
        {"items": TURNS},
        {"conversation": TURNS},
        {"messages": TURNS},
        {
            "conversations": [
                {"role": "user", "content": "Where is it?"},
                {"role": "assistant", "content": "On its way."},
            ]
        },
        {"conversation": [{"human": "Where is it?", "assistant": "On its way."}]},
    ],
)
def test_every_variant_gives_the_same_turns(tmp_path: Path, row: dict[str, Any]) -> None:
    path = write_rows(tmp_path / "a.jsonl", [{"id": "x-1", **row}])
    assert choose_reader(path)[0] == "sharegpt"
    (raw,) = conversations(path)
    assert (raw.own_id, spoken(raw), raw.metadata) == ("x-1", SPOKEN, {})


def test_system_tools_calls_and_observations_are_read(tmp_path: Path) -> None:
    row = {
        "system": "You run a café.",
        "tools": json.dumps([{"name": "track"}]),
        "conversations": [
            {"from": "human", "value": "Where is it?"},
            {"from": "function_call", "value": '{"name": "track", "arguments": {"n": 1}}'},
            {"from": "observation", "value": "near"},
            {"from": "gpt", "value": "Near.", "weight": 0},
        ],
    }
    (raw,) = conversations(write_rows(tmp_path / "a.jsonl", [row]))
    assert [message.role for message in raw.messages] == ["system", "user", "assistant", "tool", "assistant"]
    assert raw.messages[2].tool_calls[0].function.arguments == '{"n": 1}'
    assert raw.messages[4].weight == 0
    assert raw.tools == ({"name": "track"},)


def test_broken_turns_say_which(tmp_path: Path) -> None:
    good = {"conversations": TURNS}
    broken: list[Any] = [
        {"conversations": [{"from": "moderator", "value": "x"}]},
        {"conversations": [{"from": "function_call", "value": "not JSON"}]},
        {"conversations": "Hi"},
        {"other": 1},
    ]
    reasons = [reject.reason for reject in rejects(write_rows(tmp_path / "a.jsonl", [good, *broken]))]
    assert reasons == [
        "message 1 has the role 'moderator'",
        "message 1 has a tool call without a function name",
        "the turns are not a list but str",
        "no list `conversations`",
    ]
