"""Training goes on from a model that was tuned before, and from no other."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.train.material import SETTINGS as QUICK
from tests.train.material import SYSTEM, run, stop_and_go_on, workspace, write_dataset
from vivace.config.train import TrainSettings
from vivace.errors import ConfigError
from vivace.models import identify
from vivace.train import tune
from vivace.train.start import check_start
from vivace.train.tune import run_key

METHODS = ["lora", "dora", "rslora", "ia3", "prompt_tuning", "full"]


def go_on(dataset: Path, model: Path, folder: Path, start: Path | None, **changes: Any) -> dict[str, Any]:
    settings = TrainSettings(**{**QUICK, "lora_dropout": 0.0, **changes})
    return tune(dataset, identify(model), SYSTEM, settings, workspace(folder), start)


@pytest.mark.parametrize("method", METHODS)
def test_each_method_begins_where_the_earlier_run_ended(tiny_model: Path, tmp_path: Path, method: str) -> None:
    dataset = write_dataset(tmp_path)
    first = go_on(dataset, tiny_model, tmp_path / "first", None, method=method, num_train_epochs=4)
    start = tmp_path / "first" / "out" / "model"
    second = go_on(dataset, tiny_model, tmp_path / "second", start, method=method, num_train_epochs=2)
    assert second["validation_loss_before"] == pytest.approx(first["best_validation_loss"], rel=1e-5)
    assert second["validation_loss_before"] < 0.9 * first["validation_loss_before"]
    assert second["trainable_parameters"] == first["trainable_parameters"]


def test_the_learning_rate_warms_up_anew_and_falls_again(tiny_model: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path)
    go_on(dataset, tiny_model, tmp_path / "first", None, num_train_epochs=2)
    start = tmp_path / "first" / "out" / "model"
    go_on(dataset, tiny_model, tmp_path / "second", start, warmup_ratio=0.25)
    lines = (tmp_path / "second" / "out" / "history.jsonl").read_text().splitlines()
    rates = [row["learning_rate"] for row in map(json.loads, lines) if "learning_rate" in row]
    peak = rates.index(max(rates))
    assert max(rates) == pytest.approx(QUICK["learning_rate"], rel=0.05)
    assert rates[0] < 0.2 * max(rates)
    assert 2 < peak < len(rates) / 2
    assert rates[-1] < 0.05 * max(rates)


def test_an_update_that_was_stopped_ends_with_the_same_weights(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_dataset(tmp_path)
    run(dataset, tiny_model, tmp_path / "first", num_train_epochs=2)
    start = tmp_path / "first" / "out" / "model"

    def from_start(*arguments: Any) -> dict[str, Any]:
        return tune(*arguments, start)

    monkeypatch.setattr("vivace.train.tune", from_start)
    run(dataset, tiny_model, tmp_path / "through")
    stop_and_go_on(dataset, tiny_model, tmp_path / "stopped")
    through, stopped = (
        load_file(tmp_path / name / "out" / "model" / "adapter_model.safetensors") for name in ("through", "stopped")
    )
    assert all((through[name] == stopped[name]).all() for name in through)


def test_another_start_is_another_run(tiny_model: Path) -> None:
    settings, base = TrainSettings(), identify(tiny_model)
    keys = {run_key((), (), base, settings, "float32", start) for start in (None, Path("one"), Path("two"))}
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"method": "full"}, "method in .train. is 'full', but the model to go on from was trained with 'lora'"),
        ({"method": "dora"}, "'dora', but the model to go on from was trained with 'lora'"),
        ({"method": "prompt_tuning"}, "'prompt_tuning', but"),
        ({"lora_r": 8}, "lora_r in .train. is 8, but the model to go on from has 4"),
        ({"lora_alpha": 32}, "lora_alpha in .train. is 32, but the model to go on from has 8"),
        ({"lora_layers_fraction": 0.5}, "adapters in other layers"),
        ({"lora_target_modules": ["q_proj"]}, "adapters in other layers"),
    ],
)
def test_a_model_of_another_shape_is_refused(
    tiny_model: Path, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    dataset = write_dataset(tmp_path)
    go_on(dataset, tiny_model, tmp_path / "first", None, num_train_epochs=1)
    with pytest.raises(ConfigError, match=told):
        go_on(dataset, tiny_model, tmp_path / "second", tmp_path / "first" / "out" / "model", **changes)


def test_a_full_model_is_no_adapter_and_qlora_goes_on_from_lora(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="was trained with 'full'"):
        check_start(tiny_model, TrainSettings())
    check_start(tiny_model, TrainSettings(method="full"))
    shutil.copytree(tiny_model, tmp_path / "adapter")
    config = {"peft_type": "LORA", "r": 16, "lora_alpha": 32}
    (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config))
    check_start(tmp_path / "adapter", TrainSettings(method="qlora"))
