"""Settings against settings: both are trained, and a difference is told only where one is shown."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.loop.tasks import make_tasks
from vivace.config.train import TrainSettings
from vivace.domain import SilentProgress
from vivace.errors import ConfigError
from vivace.loop.against import changed_settings, differences, sentence, train_against
from vivace.loop.trainings import list_trainings
from vivace.train.search.verdict import seeds_gain


def against(project: Path, *words: str, **named: Any) -> dict[str, Any]:
    return train_against(project, words, SilentProgress(), **named)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project with enough validation conversations that no run was stopped by."""
    return make_tasks(tmp_path_factory.mktemp("against") / "shop", tiny_model, count=80, max_tokens=2000)


@pytest.mark.slow
def test_a_better_setting_is_told_with_its_interval_and_its_runs_stay(shop: Path) -> None:
    found = against(shop, "learning_rate=0.0001")
    assert found["changed"] == {"learning_rate": [0.01, 0.0001]}
    assert found["high"] < 0
    assert found["worse"]
    assert found["unseen"]
    assert found["examples"] == 16
    assert found["loss"][0] < found["loss"][1]
    assert found["sentence"].startswith("learning_rate = 0.0001 is worse: -")
    runs = {run.id: run for run in list_trainings(shop)}
    assert [runs[name].origin.settings["learning_rate"] for name in found["runs"]] == [0.01, 0.0001]
    assert [side["tokens"] for side in found["sides"]] == [[runs[name].facts["tokens"]] for name in found["runs"]]
    back = against(shop, "learning_rate=0.01", changes=["train.learning_rate=0.0001"])
    assert back["better"]
    assert back["gain"] == pytest.approx(-found["gain"])
    assert len(list_trainings(shop)) == 2


@pytest.mark.slow
def test_what_changes_nothing_is_not_told_to_be_better(shop: Path) -> None:
    found = against(shop, "early_stopping_patience=3")
    assert (found["gain"], found["low"], found["high"], found["better"], found["worse"]) == (0, 0, 0, False, False)
    assert found["sentence"].startswith("Neither is shown to be better: early_stopping_patience = 3 gains +0.000")


@pytest.mark.slow
def test_curriculum_is_compared_with_shuffled_training_over_seeds(shop: Path) -> None:
    found = against(shop, "train_sampling_strategy=curriculum", seeds=2)
    assert len(found["runs"]) == len(set(found["runs"])) == 4
    runs = {run.id: run.origin.settings for run in list_trainings(shop)}
    told = [(runs[name]["train_sampling_strategy"], runs[name]["seed"]) for name in found["runs"]]
    assert told == [("shuffled", 0), ("curriculum", 0), ("shuffled", 1), ("curriculum", 1)]
    assert found["low"] <= min(found["gains"]) <= found["gain"] <= max(found["gains"]) <= found["high"]
    assert found["sentence"].endswith("The interval holds 2 seeds.")


def test_a_difference_that_changes_with_the_seed_is_no_difference() -> None:
    learned = [10] * 40
    source = np.random.default_rng(0)

    def table(*gains: float) -> Any:
        before = 20 + source.normal(0, 1, (len(gains), 40))
        after = before - 10 * np.array(gains)[:, None] + source.normal(0, 0.1, (len(gains), 40))
        losses = np.stack([before, after], axis=1)
        return np.stack([losses, np.full_like(losses, 3.0)], axis=3)

    agreed = seeds_gain(table(0.2, 0.22, 0.21), learned, seed=0)
    assert agreed["better"]
    assert agreed["gains"] == pytest.approx([0.2, 0.22, 0.21], abs=0.01)
    assert agreed["low"] < agreed["gain"] < agreed["high"]
    assert agreed["token_accuracy"] == pytest.approx([0.7, 0.7])
    torn = seeds_gain(table(0.5, -0.2, 0.4), learned, seed=0)
    assert torn["low"] < 0 < torn["high"]
    assert not torn["better"]
    assert not torn["worse"]
    assert seeds_gain(table(-0.2, -0.22), learned, seed=0)["worse"]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "nothing to compare with"),
        (["learning_rate"], "is not NAME=VALUE"),
        (["lerning_rate=1"], "Did you mean 'learning_rate'"),
        (["learning_rate=-1"], "learning_rate"),
        (["train_sampling_strategy=sorted"], "train_sampling_strategy"),
        (["seed=3"], "--seeds N"),
        (["replay=0.5"], "--from only"),
        (["search.trials=3"], "cannot be compared"),
    ],
)
def test_words_that_cannot_be_compared_are_told(tmp_path: Path, words: list[str], told: str) -> None:
    (tmp_path / "vivace.toml").write_text("[train]\n")
    with pytest.raises(ConfigError, match=told):
        changed_settings(tmp_path / "vivace.toml", words)


def test_a_value_that_is_set_already_is_told_also_where_it_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text("[train]\n")
    for word, value in (("learning_rate=0.002", "0.002"), ("lora_r=16", "16")):
        changed = changed_settings(tmp_path / "vivace.toml", [word])
        with pytest.raises(ConfigError, match=f"is {value} already"):
            differences(TrainSettings(), changed, [word])
    changed = changed_settings(tmp_path / "vivace.toml", ["train.lora_r=8"])
    assert differences(TrainSettings(), changed, ["train.lora_r=8"]) == {"lora_r": [16, 8]}


def test_too_many_or_no_seeds_are_refused(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text("[train]\n")
    for seeds in (0, 21):
        with pytest.raises(ConfigError, match="is not between 1 and 20"):
            against(tmp_path, "lora_r=8", seeds=seeds)


def test_the_sentence_says_only_what_was_shown() -> None:
    found = {"changed": {"lora_r": [16, 8]}, "gain": 0.1, "low": 0.05, "high": 0.15, "examples": 30, "unseen": True,
             "better": True, "worse": False, "seeds": 1}  # fmt: skip
    assert sentence(found).startswith("lora_r = 8 is better by +0.100 [+0.050, +0.150] nats per token on 30 validation")
    assert "--seeds 3" in sentence(found)
    doubtful = found | {"better": False, "low": -0.05, "unseen": False, "seeds": 3}
    assert sentence(doubtful).startswith("Neither is shown to be better: lora_r = 8 gains +0.100")
    assert "that also chose the checkpoints" in sentence(doubtful)
    assert "--seeds" not in sentence(doubtful)
    assert json.loads(json.dumps(found)) == found
