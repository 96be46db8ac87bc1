"""The general questions, and how answers are judged by likelihood."""

import asyncio
import math
from collections import Counter

import pytest

from tests.evaluate.fakes import FakeEngine
from vivace.domain import SilentProgress
from vivace.errors import EngineDied, EngineError
from vivace.evaluate.general.choices import Chosen, choose, questions
from vivace.evaluate.general.forgetting import CHOICES, RIGHT, of_choices
from vivace.evaluate.probe import general_probe


class Knowing(FakeEngine):
    """Finds the pairs of question and answer it knows twice as likely, character by character, as others."""

    def __init__(self, known, *, dies_after=None):
        super().__init__(lambda text: text)
        self.known, self.dies_at, self.calls = set(known), dies_after, 0

    async def token_logprobs(self, prompt_ids, answer_ids):
        self.calls += 1
        if self.dies_at is not None and self.calls > self.dies_at:
            raise EngineDied("The engine's process ended.")
        asked, text = ("".join(map(chr, ids)) for ids in (prompt_ids, answer_ids))
        known = (asked.split("\x00")[0].removeprefix("user:"), text.rstrip("\x00\n")) in self.known
        return [math.log(0.5 if known else 0.25)] * len(answer_ids)


def asked(engine, journal, some=questions()):
    return asyncio.run(choose(engine, some, journal, SilentProgress()))


def test_the_questions_are_sound() -> None:
    every = questions()
    assert len(every) >= 170
    assert len({each.id for each in every}) == len(every)
    assert len({each.question for each in every}) == len(every)
    assert all(len(set(each.answers)) == 4 for each in every)
    assert min(Counter(each.area for each in every).values()) >= 12
    # Nothing is asked twice in two ways: once with choices, once to be answered.
    assert not {each.question for each in every} & {each.prompt[-1].content for each in general_probe()}


def test_the_right_answer_is_no_longer_than_the_wrong_ones_beyond_chance() -> None:
    longest = sum(len(each.right) > max(map(len, each.wrong)) for each in questions())
    assert longest / len(questions()) < 0.35


def test_who_finds_the_right_answers_likely_is_right(tmp_path) -> None:
    every = questions()
    assert all(each.is_right for each in asked(Knowing({(q.question, q.right) for q in every}), tmp_path / "a.jsonl"))
    wrong = asked(Knowing({(q.question, q.wrong[0]) for q in every}), tmp_path / "b.jsonl")
    assert not any(each.is_right for each in wrong)


def test_a_tie_is_not_right() -> None:
    assert not Chosen("a", "x", (8.0, 8.0, 9.0, 9.0), (1, 1, 1, 1)).is_right
    assert Chosen("a", "x", (8.0, 8.0, 9.0, 9.0), (2, 1, 1, 1)).is_right


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path) -> None:
    every = questions()[:32]
    journal = tmp_path / "c.jsonl"
    right = {(q.question, q.right) for q in every}
    with pytest.raises(EngineDied):
        asked(Knowing(right, dies_after=50), journal, every)
    again = Knowing(right)
    found = asked(again, journal, every)
    assert again.calls == 4 * (32 - 8)  # the first group of eight was whole
    assert [each.id for each in found] == [each.id for each in every]
    assert found == asked(Knowing(right), tmp_path / "d.jsonl", every)


def test_an_engine_without_likelihoods_is_refused(tmp_path) -> None:
    with pytest.raises(EngineError, match="cannot tell likelihoods"):
        asked(FakeEngine(str), tmp_path / "e.jsonl")


def test_results_name_the_whole_and_the_areas(tmp_path) -> None:
    every = questions()
    found = of_choices(asked(Knowing({(q.question, q.right) for q in every if q.area != "code"}), tmp_path / "f.jsonl"))
    values = {(each.task, each.metric): each.value for each in found}
    code = sum(q.area == "code" for q in every)
    assert values[(f"{CHOICES}: facts", RIGHT)] == 1.0
    assert values[(f"{CHOICES}: code", RIGHT)] == 0.0
    assert values[(CHOICES, RIGHT)] == pytest.approx(1 - code / len(every), abs=0.02)
