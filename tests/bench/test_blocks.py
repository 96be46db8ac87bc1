"""What is measured in which order, and what an interruption leaves."""

from pathlib import Path

import pytest

from vivace.bench.blocks import Finished, finished_blocks, plan, remember, requests_of
from vivace.bench.load import Run, Sample
from vivace.config.settings import BenchSettings
from vivace.domain import Example, Message
from vivace.errors import DataError


def examples(count: int) -> list[Example]:
    return [Example(f"e{n}", (Message("user", f"question {n}"), Message("assistant", "answer"))) for n in range(count)]


def test_every_candidate_goes_first_as_often_as_last() -> None:
    blocks = [block for block in plan(["base", "a", "b"], "base", BenchSettings(blocks=4)) if block.loop == "closed"]
    assert len(blocks) == 8
    for workload in ("natural", "fixed"):
        orders = [block.names for block in blocks if block.workload == workload]
        assert orders.count(("base", "a", "b")) == orders.count(("b", "a", "base")) == 2
    assert len({block.key for block in blocks}) == 8


def test_the_baseline_is_spared_the_open_loop() -> None:
    (block,) = [block for block in plan(["base", "a"], "base", BenchSettings()) if block.loop == "open"]
    assert block.names == ("a",)
    assert not [block for block in plan(["base"], "base", BenchSettings()) if block.loop == "open"]


def test_prompts_differ_between_blocks_and_not_between_workloads() -> None:
    settings = BenchSettings(requests=4, blocks=2, seed=3)
    asked = {
        block.key: [request.messages[0].content for request in requests_of(block, examples(8), settings)]
        for block in plan(["a"], None, settings)
    }
    assert set(asked["closed/natural/0"]) | set(asked["closed/natural/1"]) == {f"question {n}" for n in range(8)}
    assert asked["closed/natural/0"] == asked["closed/fixed/0"]


def test_the_reference_answer_is_not_in_the_prompt() -> None:
    settings = BenchSettings()
    (block, *_) = plan(["a"], None, settings)
    for request in requests_of(block, examples(2), settings):
        assert [message.role for message in request.messages] == ["user"]


def test_few_examples_are_asked_again_and_none_is_an_error() -> None:
    settings = BenchSettings(requests=8)
    (block, *_) = plan(["a"], None, settings)
    made = requests_of(block, examples(3), settings)
    assert len(made) == len({request.id for request in made}) == 8
    with pytest.raises(DataError):
        requests_of(block, [], settings)


def test_equal_work_means_the_same_number_of_tokens_for_all() -> None:
    settings = BenchSettings(fixed_tokens=9, max_tokens=33)
    natural, fixed, *_ = plan(["a"], None, settings)
    assert {(r.sampling.max_tokens, r.sampling.ignore_eos) for r in requests_of(fixed, examples(3), settings)} == {
        (9, True)
    }
    assert {(r.sampling.max_tokens, r.sampling.ignore_eos) for r in requests_of(natural, examples(3), settings)} == {
        (33, False)
    }


def test_measured_blocks_survive_and_a_torn_one_does_not(tmp_path: Path) -> None:
    journal = tmp_path / "blocks.jsonl"
    assert finished_blocks(journal) == {}
    record = Finished("closed/natural/0", {"a": Run((Sample("r", 0.0, 0.1, 2.0, None, 3, 4, 0, "late"),), 2.5)})
    remember(journal, record)
    with open(journal, "ab") as file:
        file.write(b'{"key": "closed/fixed/0", "ru')
    assert finished_blocks(journal) == {"closed/natural/0": record}


def test_who_cannot_be_held_to_a_length_takes_no_part_where_all_answers_have_one() -> None:
    blocks = plan(["base", "cloud"], "base", BenchSettings(), natural={"cloud"})
    assert {block.workload: set(block.names) for block in blocks if block.loop == "closed"} == {
        "natural": {"base", "cloud"},
        "fixed": {"base"},
    }
    assert "fixed" not in {block.workload for block in plan(["cloud"], None, BenchSettings(), natural={"cloud"})}
