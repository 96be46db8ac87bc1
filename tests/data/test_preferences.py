"""Rated and compared answers: kept with what somebody thought of them, learned from only where it was good."""

from pathlib import Path
from typing import Any

from tests.data.conftest import Run
from tests.data.material import TOPICS, distinct, write_rows
from tests.data.rooms import run_step
from vivace.config.data import DataSettings
from vivace.data.rows import Row
from vivace.domain import Example, FunctionCall, Message, ToolCall


def rated(number: int, label: bool, answer: str = "") -> dict[str, Any]:
    word = TOPICS[number % len(TOPICS)]
    answer = answer or f"The {word}{number} is fixed by turning the {word}{number} round."
    return {"prompt": f"How do I mend the {word}{number} of my machine, please?", "completion": answer, "label": label}


def pair(number: int) -> dict[str, Any]:
    word = TOPICS[number % len(TOPICS)]
    prompt = f"Which {word}{number} fits the other {word}{number}, I wonder?"
    return {"prompt": prompt, "chosen": f"The blue {word}{number}.", "rejected": f"No idea about {word}{number}."}


def test_what_was_rated_bad_is_kept_but_never_learned_from(tmp_path: Path, run: Run) -> None:
    write_rows(tmp_path / "kto.jsonl", [rated(number, number % 2 == 0) for number in range(40)])
    done = run(conversations=["kto.jsonl"])
    preferences = done.lines("preferences")
    assert len(preferences) == done.facts["preferences"] == 40
    assert {row["rating"] for row in preferences} == {0.0, 1.0}
    learned = {example.id for example in done.examples}
    assert learned == {row["id"] for row in preferences if row["rating"] == 1.0}


def test_both_answers_of_a_pair_are_cleaned_and_the_preferred_one_is_learned(tmp_path: Path, run: Run) -> None:
    rows = [pair(number) for number in range(12)]
    rows[0] |= {"chosen": "Write to <b>a@b.example</b>", "rejected": "Ask  a@b.example, or c@d.example"}
    write_rows(tmp_path / "dpo.jsonl", rows)
    done = run(conversations=["dpo.jsonl"])
    (row,) = [line for line in done.lines("preferences") if line["source"] == "dpo.jsonl:1"]
    assert row["messages"][-1]["content"] == "Write to [EMAIL_1]"
    assert row["rejected"][0]["content"] == "Ask [EMAIL_1], or [EMAIL_2]"
    assert len(done.examples) == 12


def test_the_same_answer_with_another_rating_is_another_row_and_in_the_same_split(tmp_path: Path, run: Run) -> None:
    rows = [item for n in range(20) for item in (rated(n, True), rated(n, False), rated(n, True))]
    write_rows(tmp_path / "kto.jsonl", rows)
    done = run(conversations=["kto.jsonl"], test_fraction=0.3)
    assert len(done.lines("preferences")) == 40
    splits: dict[str, set[str]] = {}
    for line in done.lines("preferences"):
        splits.setdefault(line["messages"][0]["content"], set()).add(line.get("split", "train"))
    assert all(len(found) == 1 for found in splits.values())
    assert {split for found in splits.values() for split in found} == {"train", "validation", "test"}


def test_the_cap_of_test_examples_holds_for_examples_not_for_ratings_and_queries(tmp_path: Path, run: Run) -> None:
    write_rows(tmp_path / "kto.jsonl", [rated(number, True) for number in range(60)])
    questions = [{"text": f"what about {TOPICS[n % 28]}{n} and {n}", "intent": f"i{n % 3}"} for n in range(60)]
    write_rows(tmp_path / "asked.jsonl", questions)
    write_rows(tmp_path / "chat.jsonl", [distinct(number) for number in range(60)])
    done = run(conversations=["*.jsonl"], test_fraction=0.5, max_test_examples=5)
    assert done.facts["test"] == 5
    assert len([line for line in done.lines("preferences") if line.get("split") == "test"]) > 5
    assert len([line for line in done.lines("queries") if line.get("split") == "test"]) > 5
    told = [line for line in done.lines("dropped") if line["reason"].startswith("set aside")]
    assert told
    assert all(line["source"].startswith("chat.jsonl") for line in told)


def row(*turns: Message, rating: float | None = None, rejected: tuple[Message, ...] = ()) -> Row:
    return Row(Example("x", turns, content_hash="x", rating=rating, rejected=rejected))


def test_the_rated_turn_stays_the_last_even_if_it_calls_a_tool() -> None:
    call = Message("assistant", "", tool_calls=(ToolCall("1", FunctionCall("menu", "{}")),))
    turns = (Message("assistant", "Hi!"), Message("user", "An espresso"), Message("assistant", "Sure."), call)
    (kept,), trail = run_step("turns", [row(*turns, rating=0.0)], DataSettings())
    assert kept.example.messages == turns[1:]
    assert trail.drops == {}
    # Without a rating a call is no answer to learn, and goes.
    asked = (Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "An espresso"), call)
    (kept,), _trail = run_step("turns", [row(*asked)], DataSettings())
    assert kept.example.messages == asked[:2]


def test_a_rated_answer_that_goes_on_is_joined_and_so_is_the_rejected_one() -> None:
    turns = (Message("user", "Hi"), Message("assistant", "Hello."), Message("assistant", "How can I help?"))
    (kept,), _trail = run_step("turns", [row(*turns, rejected=(Message("assistant", "What?"),))], DataSettings())
    assert [message.content for message in kept.example.messages] == ["Hi", "Hello.\nHow can I help?"]
    assert [message.content for message in kept.example.rejected] == ["Hello.\nWhat?"]


def test_a_rating_of_nothing_is_dropped_with_the_reason() -> None:
    kept, trail = run_step("turns", [row(Message("user", "Hi"), Message("assistant", " "), rating=1.0)], DataSettings())
    assert (kept, trail.drops) == ([], {"the rated turn is no answer": 1})
