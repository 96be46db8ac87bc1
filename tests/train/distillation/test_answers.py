"""What a teacher answers becomes a dataset: filtered, marked, never asked twice."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.train.material import workspace
from vivace.config.distill import DistillSettings
from vivace.data import answers as found_wrong
from vivace.domain import Chunk, Example, Message, Request
from vivace.errors import DataError, EngineDied, RequestError
from vivace.evaluate.metrics.token_f1 import token_f1
from vivace.store import read_examples, write_examples
from vivace.train.distillation.answers import prompt_of, why_not, write_answers

CHECKS = {"repeats itself": found_wrong.loop, "speaks as a language model": found_wrong.as_language_model}


class Teacher:
    """Answers by rule, counts what it is asked, and dies when told to."""

    def __init__(self, rule: Callable[[Request], tuple[str, str]], dies_after: int = 10**9) -> None:
        self.rule, self.dies_after = rule, dies_after
        self.asked: list[Request] = []

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        if len(self.asked) >= self.dies_after:
            raise EngineDied("It died.")
        self.asked.append(request)
        text, finish = self.rule(request)
        yield Chunk(text)
        yield Chunk("", finish_reason="length" if finish == "length" else "stop")


def talk(number: int, answer: str = "") -> tuple[Message, ...]:
    said = answer or f"Your order {number} arrives on Friday."
    return (Message("user", f"Where is order {number}?"), Message("assistant", said))


def dataset(folder: Path, rows: list[Example]) -> Path:
    write_examples(folder / "examples.jsonl", rows)
    (folder / "report.json").write_text("{}")
    return folder


def ask(source: Path, place: Path, teacher: Any, **settings: Any) -> dict[str, Any]:
    return asyncio.run(
        write_answers(
            source,
            teacher,
            DistillSettings(method="answers", **settings),
            workspace(place),
            teacher="big",
            seed=0,
            overlap=token_f1,
            checks=CHECKS,
        )
    )


def made(place: Path) -> list[Example]:
    return [row for row in read_examples(place / "out" / "examples.jsonl") if row.metadata.get("synthetic")]


def test_answers_join_the_train_rows_marked_and_the_others_stay(tmp_path: Path) -> None:
    earlier = (Message("user", "Hello"), Message("assistant", "Hi!"))
    rows = [
        Example("a", (*earlier, *talk(1)), metadata={"intent": "order"}),
        Example("b", talk(2)),
        Example("v", talk(3), split="validation"),
        Example("t", talk(4), split="test"),
    ]
    source = dataset(tmp_path / "data", rows)
    teacher = Teacher(lambda request: (f"It arrives on Friday, as told {len(request.messages)}.", "stop"))
    facts = ask(source, tmp_path, teacher)
    assert {request.id.partition("#")[0] for request in teacher.asked} == {"a", "b"}
    assert all(request.messages[-1].role == "user" for request in teacher.asked)
    assert (facts["asked"], facts["accepted"], facts["refused"]) == (2, 2, {})
    kept = [row for row in read_examples(tmp_path / "out" / "examples.jsonl") if not row.metadata.get("synthetic")]
    assert kept == rows
    first, second = made(tmp_path)
    assert first.messages[-1] == Message("assistant", "It arrives on Friday, as told 3.")
    assert first.messages[1].weight == 0  # the team's own words are not the teacher's
    assert first.metadata == {
        "intent": "order", "synthetic": True, "augmentation": "distillation", "origin": "a", "teacher": "big",
    }  # fmt: skip
    assert {first.split, second.split} == {"train"}
    assert len({row.content_hash for row in (first, second)}) == 2
    assert (tmp_path / "out" / "report.json").exists()
    ask(source, tmp_path / "alone", teacher, keep_originals=False)
    alone = list(read_examples(tmp_path / "alone" / "out" / "examples.jsonl"))
    assert sorted(row.id for row in alone) == ["a~distillation", "b~distillation", "t", "v"]


def test_each_answer_that_is_left_out_is_counted_with_its_reason(tmp_path: Path) -> None:
    said = {
        1: ("", "stop"),
        2: ("Your order 2 arrives", "length"),
        3: ("order Friday " * 20, "stop"),
        4: ("I'm sorry, but I cannot help with that order on Friday.", "stop"),
        5: ("As an AI language model, I know your order arrives on Friday.", "stop"),
        6: ("Breakfast is at nine.", "stop"),
        7: ("Your order 7 arrives on Friday.", "stop"),
    }
    source = dataset(tmp_path / "data", [Example(str(number), talk(number)) for number in said])
    facts = ask(source, tmp_path, Teacher(lambda request: said[int(request.id.partition("#")[0])]))
    assert facts["refused"] == {
        "empty": 1,
        "longer than max_answer_tokens": 1,
        "repeats itself": 1,
        "refuses to answer": 1,
        "speaks as a language model": 1,
        "too far from the dataset's own answer": 1,
    }
    assert [row.metadata["origin"] for row in made(tmp_path)] == ["7"]
    told = [json.loads(line) for line in (tmp_path / "out" / "refused.jsonl").read_text().splitlines()]
    assert {row["id"] for row in told} == set("123456")
    assert next(row for row in told if row["id"] == "6")["answer"] == "Breakfast is at nine."


def test_what_the_team_itself_answers_is_no_reason() -> None:
    sorry = "I'm sorry, I can't help with orders of other shops."
    assert why_not(sorry, "Your order is on its way.", 0.0, token_f1, CHECKS) == "refuses to answer"
    assert why_not(sorry, "Unfortunately I cannot help with other shops.", 0.0, token_f1, CHECKS) == ""
    assert why_not("I can help with that: it is on its way.", "", 0.0, token_f1, CHECKS) == ""


def test_of_several_answers_the_nearest_is_kept(tmp_path: Path) -> None:
    texts = ["It comes soon.", "Your order arrives on Friday.", "Your order arrives late."]
    rows = [Example("own", talk(1)), Example("open", talk(2)[:1])]
    teacher = Teacher(lambda request: (texts[int(request.id.partition("#")[2])], "stop"))
    ask(dataset(tmp_path / "data", rows), tmp_path, teacher, samples=3, min_token_f1=0.0)
    chosen = {row.metadata["origin"]: row.messages[-1].content for row in made(tmp_path)}
    assert chosen["own"] == texts[1]  # as the team said
    # Without the team's answer, the one nearest to the others.
    consensus = max(texts, key=lambda text: sum(token_f1(text, other) for other in texts))
    assert chosen["open"] == consensus
    assert all(request.sampling.temperature == 0.7 for request in teacher.asked)
    assert len({request.sampling.seed for request in teacher.asked}) == 6


def test_an_engine_that_dies_loses_no_finished_group_and_the_answers_are_the_same(tmp_path: Path) -> None:
    rows = [Example(f"{number:02}", talk(number)) for number in range(40)]
    source = dataset(tmp_path / "data", rows)

    def rule(request: Request) -> tuple[str, str]:
        return (f"Your order arrives on Friday, {request.id}.", "stop")

    ask(source, tmp_path / "through", Teacher(rule))
    with pytest.raises(EngineDied, match="failed while the teacher answered"):
        ask(source, tmp_path / "broken", Teacher(rule, dies_after=20))
    again = Teacher(rule)
    ask(source, tmp_path / "broken", again)
    assert len(again.asked) == 24
    for name in ("examples.jsonl", "answers.json", "refused.jsonl"):
        assert (tmp_path / "broken" / "out" / name).read_bytes() == (tmp_path / "through" / "out" / name).read_bytes()


def test_a_prompt_that_cannot_be_asked_is_counted_and_none_at_all_is_an_error(tmp_path: Path) -> None:
    def refuse(request: Request) -> tuple[str, str]:
        raise RequestError("The prompt is too long.", "messages")

    source = dataset(tmp_path / "data", [Example("a", talk(1))])
    with pytest.raises(DataError, match=r"None of the teacher's answers can be used: the teacher could not be asked\."):
        ask(source, tmp_path, Teacher(refuse))


def test_only_what_ends_with_a_question_is_a_prompt() -> None:
    assert prompt_of(Example("a", talk(1))) == talk(1)[:1]
    assert prompt_of(Example("b", talk(1)[:1])) == talk(1)[:1]
    assert prompt_of(Example("c", talk(1)[1:])) == ()
    assert prompt_of(Example("d", ())) == ()
