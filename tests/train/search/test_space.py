"""What a search may vary, and what is refused with a sentence."""

from typing import Any

import pytest

from vivace.config.train import TrainSettings
from vivace.errors import ConfigError
from vivace.train.search.space import (
    Choices,
    Range,
    default_point,
    default_space,
    read_space,
    trial_settings,
)


def settings(space: dict[str, Any], how: str = "tpe", **changes: Any) -> TrainSettings:
    return TrainSettings(search={"method": how, "space": space}, **changes)


def test_lists_are_choices_and_tables_are_ranges() -> None:
    space = read_space(
        settings({"learning_rate": {"low": 1e-4, "high": 1, "log": True}, "lora_r": [4, 8], "dtype": ["float32"]})
    )
    assert space == {
        "learning_rate": Range(1e-4, 1.0, log=True),
        "lora_r": Choices((4, 8)),
        "dtype": Choices(("float32",)),
    }


def test_whole_numbers_stay_whole_where_the_setting_is_whole() -> None:
    space = read_space(settings({"lora_r": {"low": 2, "high": 64}, "weight_decay": {"low": 0, "high": 1}}))
    assert space == {"lora_r": Range(2, 64), "weight_decay": Range(0.0, 1.0)}
    assert isinstance(space["weight_decay"], Range)
    assert isinstance(space["weight_decay"].low, float)


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ({"learning_rat": [1.0]}, "learning_rat is no setting.*Did you mean 'learning_rate'"),
        ({"seed": [1, 2]}, "seed cannot be searched: a lucky seed"),
        ({"max_tokens": [1, 2]}, "max_tokens cannot be searched: a trial has tokens_per_trial"),
        ({"lora_r": {"low": 8, "high": 8}}, "low = 8, which is not below high = 8"),
        ({"learning_rate": {"low": 1, "high": 0.1}}, "low = 1.0, which is not below high = 0.1"),
        ({"weight_decay": {"low": 0, "high": 1, "log": True}}, "begins above 0"),
        ({"learning_rate": {"low": 1e-4}}, "needs the number high; it is None"),
        ({"learning_rate": {"low": 1e-4, "hihg": 1}}, "unknown key 'hihg'.*'high'"),
        ({"learning_rate": {"low": 1e-4, "high": "1"}}, "needs the number high; it is '1'"),
        ({"learning_rate": {"low": 0.1, "high": 1, "log": 1}}, "log = 1"),
        ({"lora_r": [4, 4.5]}, "value 4.5: input should be a valid integer"),
        ({"lora_r": []}, "empty list"),
        ({"lora_r": [4, 4]}, "names a value twice"),
        ({"lora_r": [[4]]}, r"value \[4\]"),
        ({"lora_r": 4}, "neither a list of values nor a table"),
        ({"lora_dropout": [0.0, 2.0]}, "value 2.0: input should be less than or equal to 1"),
        ({"lr_scheduler_type": ["cosin"]}, "value 'cosin': input should be 'linear', 'cosine'"),
    ],
)
def test_a_wrong_space_is_refused_with_a_sentence(space: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        read_space(settings(space))


def test_a_grid_needs_lists() -> None:
    space = {"learning_rate": {"low": 1e-4, "high": 1e-2}}
    with pytest.raises(ConfigError, match="a grid needs a list of values for learning_rate"):
        read_space(settings(space, "grid"))
    assert read_space(settings({"learning_rate": [1e-4]}, "grid")) == {"learning_rate": Choices((1e-4,))}


@pytest.mark.parametrize("method", ["lora", "dora", "rslora", "full", "ia3", "prompt_tuning"])
@pytest.mark.parametrize("how", ["grid", "tpe"])
def test_the_usual_space_holds_the_settings_there_are(method: str, how: str) -> None:
    chosen = settings({}, how, method=method, per_device_train_batch_size=3, lora_r=24)
    space = default_space(chosen)
    point = default_point(space, chosen)
    assert point is not None
    assert point["per_device_train_batch_size"] == 3
    assert {"learning_rate", "per_device_train_batch_size"} <= set(space)
    assert ("lora_r" in space) == (method in ("lora", "dora", "rslora") and how == "tpe")
    tried = trial_settings(chosen, point)
    assert (tried.per_device_train_batch_size, tried.method) == (3, method)


def test_settings_outside_of_the_space_are_no_point_of_it() -> None:
    chosen = settings({"learning_rate": {"low": 0.1, "high": 1}}, learning_rate=1e-3)
    assert default_point(read_space(chosen), chosen) is None
