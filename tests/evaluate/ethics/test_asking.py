"""Nothing is asked twice, whatever happens."""

from pathlib import Path

import pytest

from tests.evaluate.ethics.fakes import Parrot, candidate, example, settings
from tests.evaluate.fakes import FakeEngine, opener, workspace
from vivace.domain import Message
from vivace.errors import EngineDied
from vivace.evaluate.ethics.asking import Question, Text, ask

QUESTIONS = [Question(f"q{number}", (Message("user", "x" * number),)) for number in range(1, 11)]
TEXTS = [Text(f"t{number}", "y" * number) for number in range(1, 6)]


def test_an_interrupted_run_goes_on_where_it_stopped_and_tells_the_same(tmp_path: Path) -> None:
    def reply(said: str) -> str:
        return f"answer {len(said)}"

    place = workspace(tmp_path)
    dying = Parrot(reply, dies_after=6)
    with pytest.raises(EngineDied, match="while it was probed") as caught:
        ask(opener(dying), candidate(), QUESTIONS, TEXTS, settings(), place)
    assert "Run the same command again" in caught.value.hint
    rest = Parrot(reply)
    heard = ask(opener(rest), candidate(), QUESTIONS, TEXTS, settings(), place)
    assert len(rest.asked) == 6  # groups of 4: only the first was whole
    whole = ask(opener(Parrot(reply)), candidate(), QUESTIONS, TEXTS, settings(), workspace(tmp_path / "whole"))
    assert heard == whole
    assert len(heard.said) == 10
    assert len(heard.likely) == 5


def test_a_finished_run_opens_no_engine(tmp_path: Path) -> None:
    place = workspace(tmp_path)
    first = ask(opener(Parrot(str.upper)), candidate(), QUESTIONS, TEXTS, settings(), place)

    def broken():
        raise AssertionError("opened")

    assert ask(broken, candidate(), QUESTIONS, TEXTS, settings(), place) == first


def test_another_model_is_asked_anew(tmp_path: Path) -> None:
    place = workspace(tmp_path)
    ask(opener(Parrot(str.upper)), candidate("one"), QUESTIONS, [], settings(), place)
    other = Parrot(str.upper)
    ask(opener(other), candidate("two"), QUESTIONS, [], settings(), place)
    assert len(other.asked) == 10


def test_an_engine_without_likelihoods_still_answers_and_says_so(tmp_path: Path) -> None:
    heard = ask(opener(FakeEngine(str.upper)), candidate(), QUESTIONS[:2], TEXTS[:1], settings(), workspace(tmp_path))
    assert heard.said["q1"].text == "X"
    assert "cannot tell likelihoods" in heard.likely["t1"].error


def test_a_refused_request_is_told_and_the_others_are_answered(tmp_path: Path) -> None:
    engine = FakeEngine(lambda said: "!" if said == "xx" else said)
    heard = ask(opener(engine), candidate(), QUESTIONS, [], settings(), workspace(tmp_path))
    assert heard.said["q2"].error
    assert heard.said["q3"].text == "xxx"


def test_the_tokenizer_of_an_engine_is_its_own_again_after_opened_questions(tmp_path: Path) -> None:
    engine = Parrot(str.upper)
    held = engine.tokenizer
    opened = [Question("secret/1", (Message("assistant", "the key is"),), opened=True), *QUESTIONS[:1]]
    ask(opener(engine), candidate(), opened, [], settings(), workspace(tmp_path))
    assert engine.tokenizer is held
    assert example("a", "b", "c").prompt
