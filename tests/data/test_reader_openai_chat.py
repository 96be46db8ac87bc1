"""OpenAI chat rows: completions, rewards, and what else stands beside the messages."""

from pathlib import Path
from typing import Any

import pytest

from tests.data.material import chat, write_rows
from tests.data.sources import conversations, read, rejects, spoken
from vivace.data.rows import Raw, Reject

TURN = {"role": "user", "content": "A large latte, please."}
ANSWER = {"role": "assistant", "content": "Coming up."}
CALL = {"id": "c1", "type": "function", "function": {"name": "find_drink", "arguments": '{"name": "latte"}'}}


@pytest.mark.parametrize("key", ["completion", "response"])
@pytest.mark.parametrize("answer", ["Coming up.", ANSWER, [ANSWER]])
def test_a_completion_is_the_answer_to_the_messages(tmp_path: Path, key: str, answer: Any) -> None:
    (raw,) = conversations(write_rows(tmp_path / "a.jsonl", [{"messages": [TURN], key: answer}]))
    assert spoken(raw) == [("user", "A large latte, please."), ("assistant", "Coming up.")]
    assert raw.metadata == {}


def test_a_row_without_answer_is_read(tmp_path: Path) -> None:
    rows = [{"messages": [TURN], "response": None, "split": "train"}, {"messages": [TURN], "intent": "order"}]
    found = conversations(write_rows(tmp_path / "a.jsonl", rows))
    assert [len(raw.messages) for raw in found] == [1, 1]
    assert [raw.metadata for raw in found] == [{"split": "train"}, {"intent": "order"}]


def test_a_completion_may_call_a_tool_and_carry_a_reward(tmp_path: Path) -> None:
    answer = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    rows = [{"messages": [TURN], "completion": answer, "reward": value} for value in (1.0, 0.0, 0.25, -1)]
    found = conversations(write_rows(tmp_path / "a.jsonl", rows))
    assert [raw.rating for raw in found] == [1.0, 0.0, 0.25, 0.0]
    assert found[0].messages[-1].tool_calls[0].function.name == "find_drink"
    assert found[0].metadata == {}


@pytest.mark.parametrize(
    ("key", "values", "ratings"),
    [
        ("rating", ["thumbs_up", "bad"], [1.0, 0.0]),
        ("label", [True, False], [1.0, 0.0]),
        ("rating", [1, 5], [None, None]),
        ("label", ["refund", "tracking"], [None, None]),
        ("label", [0, 7], [None, None]),
    ],
)
def test_only_thumbs_are_ratings(tmp_path: Path, key: str, values: list[Any], ratings: list[Any]) -> None:
    rows = [{**chat("Hi", "Hello"), key: value} for value in values]
    found = conversations(write_rows(tmp_path / "a.jsonl", rows))
    assert [raw.rating for raw in found] == ratings
    assert [raw.metadata.get(key) for raw in found] == (values if ratings[0] is None else [None, None])


def test_a_question_without_answer_has_no_rating(tmp_path: Path) -> None:
    (raw,) = conversations(write_rows(tmp_path / "a.jsonl", [{"messages": [TURN], "label": True}]))
    assert (raw.rating, raw.metadata) == (None, {"label": True})


def test_settings_of_fine_tuning_files_are_kept_as_metadata(tmp_path: Path) -> None:
    row = chat("Hi", "Hello", parallel_tool_calls=False)
    assert conversations(write_rows(tmp_path / "a.jsonl", [row]))[0].metadata == {"parallel_tool_calls": False}


def test_functions_of_old_files_are_tool_calls(tmp_path: Path) -> None:
    row = {"messages": [TURN, {"role": "assistant", "function_call": {"name": "f", "arguments": {"a": 1}}}]}
    (raw,) = conversations(write_rows(tmp_path / "a.jsonl", [row]))
    assert raw.messages[1].tool_calls[0].function.arguments == '{"a": 1}'


def test_rows_nested_without_end_are_set_aside(tmp_path: Path) -> None:
    deep = '{"messages": [], "tools": ' + '[{"a":' * 60 + "1" + "}]" * 60 + "}"
    items = read(write_rows(tmp_path / "a.jsonl", [chat("Hi", "Hello"), deep]))
    assert [type(item) for item in items] == [Raw, Reject]
    assert "nested deeper than 64 levels" in rejects(tmp_path / "a.jsonl")[0].reason
