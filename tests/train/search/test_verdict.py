"""Which of two trained models is better, on conversations that neither learned from."""

from pathlib import Path

import pytest

from tests.train.material import FACTS, SYSTEM, run, write_dataset
from vivace.config.train import TrainSettings
from vivace.domain import Example, Message, Model, SilentProgress
from vivace.models import identify
from vivace.store import read_examples, write_examples
from vivace.train.search.verdict import compare_models, held_out, paired_gain
from vivace.train.tune import validation_sample


def examples(count: int) -> list[Example]:
    talk = (Message("user", "Hi"), Message("assistant", "Hello."))
    return [Example(f"v{number}", talk, split="validation") for number in range(count)]


def test_only_conversations_are_compared_on_that_did_not_choose_the_model(tmp_path: Path) -> None:
    write_examples(tmp_path / "rows.jsonl", examples(50))
    settings = TrainSettings(max_validation_examples=30, seed=3)
    found, unseen = held_out(tmp_path / "rows.jsonl", settings)
    used = {example.id for example in validation_sample(examples(50), settings)}
    assert unseen
    assert (len(found), len(used)) == (20, 30)
    assert used.isdisjoint(example.id for example in found)


def test_where_too_few_are_left_all_are_compared_on_and_that_is_told(tmp_path: Path) -> None:
    write_examples(tmp_path / "rows.jsonl", examples(20))
    found, unseen = held_out(tmp_path / "rows.jsonl", TrainSettings(max_validation_examples=10))
    assert (len(found), unseen) == (20, False)


def test_a_gain_within_noise_is_not_better() -> None:
    learned, first = [4] * 30, [8.0] * 30
    noisy = [8.0 + (-1) ** number - 0.1 for number in range(30)]
    found = paired_gain(first, noisy, learned, seed=0)
    assert found["gain"] == pytest.approx(0.025)
    assert found["low"] < 0 < found["high"]
    assert found["p_value"] > 0.05
    assert not found["better"]
    clear = paired_gain(first, [7.0] * 15 + [7.5] * 15, learned, seed=0)
    assert clear["gain"] == pytest.approx(0.75 / 4)
    assert clear["better"]


@pytest.mark.slow
def test_a_model_that_learned_more_is_better_and_the_same_model_is_not(tiny_model: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, validation=len(FACTS))
    models = []
    for name, rate in (("low", 1e-4), ("high", 2e-2)):
        facts = run(dataset, tiny_model, tmp_path / name, learning_rate=rate, lora_dropout=0.0)
        models.append(Model(name, tmp_path / name / "out" / "model", "adapter", "fp32", base=tiny_model))
    base, settings = identify(tiny_model), TrainSettings()
    found = compare_models(dataset, base, models, SYSTEM, settings, SilentProgress())
    assert found["better"]
    assert 0 < found["low"] < found["gain"] < found["high"]
    assert found["examples"] == len(list(read_examples(dataset, "validation")))
    # The same figure as training told, measured another way.
    assert found["loss"][1] == pytest.approx(facts["best_validation_loss"], rel=1e-4)
    other = compare_models(dataset, base, models[::-1], SYSTEM, settings, SilentProgress())
    assert not other["better"]
    assert other["gain"] == pytest.approx(-found["gain"])
    same = compare_models(dataset, base, models[:1] * 2, SYSTEM, settings, SilentProgress())
    assert (same["gain"], same["low"], same["better"]) == (0, 0, False)
