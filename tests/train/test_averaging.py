"""The mean of checkpoints is kept where it is better, and only there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.train.material import Watcher, run, stop_and_go_on, write_dataset
from vivace.store.files import folder_digest

LONG: dict[str, Any] = {"eval_steps_fraction": 0.125, "lora_dropout": 0.0}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def kept(folder: Path) -> list[np.ndarray]:
    weights = load_file(str(folder / "out" / "model" / "adapter_model.safetensors"))
    return [weights[name] for name in sorted(weights)]


def at(folder: Path, step: int) -> list[np.ndarray]:
    weights = load_file(str(folder / "scratch" / f"checkpoint-{step}" / "weights.safetensors"))
    return [weights[name] for name in sorted(weights)]


def test_the_mean_of_weights_is_their_mean_in_any_order(tmp_path: Path) -> None:
    from vivace.train.averaging import mean_weights

    source = np.random.default_rng(0)
    saved = [{"a": source.normal(size=(3, 4)).astype(np.float32)} for _ in range(3)]
    for number, weights in enumerate(saved):
        (tmp_path / str(number)).mkdir()
        save_file(weights, str(tmp_path / str(number) / "weights.safetensors"))
    folders = [tmp_path / str(number) for number in range(3)]
    mean = mean_weights(folders)["a"].numpy()
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, np.mean([weights["a"] for weights in saved], axis=0), rtol=1e-6)
    assert np.array_equal(mean_weights(folders[::-1])["a"].numpy(), mean)


@pytest.mark.slow
def test_a_better_mean_is_what_the_model_holds(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    # A constant rate that is too high: the checkpoints lie around a minimum, and their mean nearer to it.
    restless: dict[str, Any] = {**LONG, "lr_scheduler_type": "constant", "learning_rate": 4e-2}
    single = run(dataset, tiny_model, tmp_path / "single", **restless)
    watcher = Watcher()
    facts = run(dataset, tiny_model, tmp_path / "mean", progress=watcher, average_checkpoints=3, **restless)
    steps = facts["averaged_steps"]
    assert len(steps) == 3
    assert facts["best_step"] == single["best_step"] in steps
    assert facts["best_validation_loss"] < single["best_validation_loss"]
    for mine, *parts in zip(kept(tmp_path / "mean"), *(at(tmp_path / "mean", step) for step in steps), strict=True):
        np.testing.assert_allclose(mine, np.mean(parts, axis=0), rtol=1e-5, atol=1e-7)
    assert any("mean of the checkpoints of steps" in text for text in watcher.said)

    stop_and_go_on(dataset, tiny_model, tmp_path / "stopped", average_checkpoints=3, **restless)
    assert folder_digest(tmp_path / "stopped" / "out")[0] == folder_digest(tmp_path / "mean" / "out")[0]


@pytest.mark.slow
def test_where_the_mean_is_worse_the_best_checkpoint_is_kept_and_it_is_said(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    # While the loss still falls, the mean lags behind the last checkpoint.
    watcher = Watcher()
    facts = run(
        dataset, tiny_model, tmp_path, progress=watcher, average_checkpoints=8, learning_rate=5e-3, **LONG
    )  # fmt: skip
    assert "averaged_steps" not in facts
    assert any("no mean of checkpoints is better" in text for text in watcher.said)
    for mine, best in zip(kept(tmp_path), at(tmp_path, facts["best_step"]), strict=True):
        assert np.array_equal(mine, best)


@pytest.mark.slow
def test_without_validation_nothing_is_averaged(tiny_model: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path, validation=0)
    facts = run(dataset, tiny_model, tmp_path, average_checkpoints=3, num_train_epochs=2)
    assert "averaged_steps" not in facts
    for mine, last in zip(kept(tmp_path), at(tmp_path, facts["steps"]), strict=True):
        assert np.array_equal(mine, last)
