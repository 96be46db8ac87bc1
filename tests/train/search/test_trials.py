"""Searching settings on the tiny model: found, pruned, killed and continued, the same again."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.train.material import SETTINGS, SYSTEM, workspace, write_dataset
from vivace.config.train import TrainSettings
from vivace.errors import DataError, ModelError
from vivace.models import identify
from vivace.store.files import folder_digest
from vivace.train.search.trials import search, winner

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
RATES = {"learning_rate": {"low": 1e-4, "high": 3e-1, "log": True}, "lora_r": [2, 4]}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


def settings(**search_settings: Any) -> TrainSettings:
    """A learning rate far too low, for the search to better."""
    wanted = {"method": "random", "trials": 5, "tokens_per_trial": 800, "space": RATES} | search_settings
    return TrainSettings(**{**SETTINGS, "learning_rate": 1e-4, "lora_dropout": 0.0, "search": wanted})


def run(dataset: Path, model: Path, folder: Path, **search_settings: Any) -> dict[str, Any]:
    search(dataset, identify(model), SYSTEM, settings(**search_settings), workspace(folder))
    result: dict[str, Any] = json.loads((folder / "out" / "search.json").read_text())
    return result


@pytest.fixture(scope="module")
def undisturbed(dataset: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return run(dataset, tiny_model, tmp_path_factory.mktemp("undisturbed"), method="tpe")


def test_a_better_learning_rate_is_found(undisturbed: dict[str, Any]) -> None:
    first = undisturbed["trials"][0]
    assert first["settings"] == undisturbed["default"] == {"learning_rate": 1e-4, "lora_r": 4}
    assert undisturbed["default_validation_loss"] == first["validation_loss"]
    assert undisturbed["best_validation_loss"] < first["validation_loss"] - 1
    assert winner(undisturbed)["learning_rate"] > 1e-3
    assert undisturbed["best_validation_loss"] == min(
        trial["validation_loss"] for trial in undisturbed["trials"] if trial["state"] == "complete"
    )


def test_a_bad_trial_ends_early(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    grid = {"method": "grid", "trials": 3, "space": {"learning_rate": [1e-4, 2e-2, 1e-5]}}
    result = run(dataset, tiny_model, tmp_path / "pruned", pruner="asha", **grid)
    by_rate = {trial["settings"]["learning_rate"]: trial for trial in result["trials"]}
    assert by_rate[1e-5]["state"] == "pruned"
    assert by_rate[1e-5]["tokens"] < by_rate[2e-2]["tokens"]
    assert by_rate[2e-2]["state"] == "complete"
    assert winner(result) == {"learning_rate": 2e-2}
    whole = run(dataset, tiny_model, tmp_path / "whole", pruner="none", **grid)
    assert [trial["state"] for trial in whole["trials"]] == ["complete"] * 3


def test_a_grid_is_tried_whole_and_nothing_twice(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    space = {"learning_rate": [1e-4, 1e-2], "lora_r": [2, 4]}
    result = run(dataset, tiny_model, tmp_path, method="grid", pruner="none", trials=9, space=space)
    tried = [tuple(trial["settings"].values()) for trial in result["trials"]]
    assert sorted(tried) == [(1e-4, 2), (1e-4, 4), (1e-2, 2), (1e-2, 4)]
    assert set(result["importances"]) == {"learning_rate", "lora_r"}
    assert result["importances"]["learning_rate"] > 0.5


@pytest.mark.parametrize(("method", "pruner"), [("gp", "hyperband"), ("random", "asha")])
def test_every_way_to_choose_works(dataset: Path, tiny_model: Path, tmp_path: Path, method: str, pruner: str) -> None:
    result = run(dataset, tiny_model, tmp_path, method=method, pruner=pruner, trials=5, tokens_per_trial=400)
    assert len(result["trials"]) == 5
    assert result["best_validation_loss"] <= result["default_validation_loss"]


def test_a_search_killed_in_a_trial_ends_the_same(
    dataset: Path, tiny_model: Path, tmp_path: Path, undisturbed: dict[str, Any]
) -> None:
    command = [sys.executable, "-m", "tests.train.search.test_trials", str(dataset), str(tiny_model), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    for number in (1, 3):
        child = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
        deadline = time.monotonic() + 200
        while time.monotonic() < deadline and child.poll() is None:
            if list((tmp_path / "scratch" / f"trial-{number}" / "scratch").glob("checkpoint-*/checkpoint.json")):
                break
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert child.returncode == -signal.SIGKILL, child.stderr.read() if child.stderr else ""
        if child.stderr:
            child.stderr.close()
    assert run(dataset, tiny_model, tmp_path, method="tpe") == undisturbed


def test_a_finished_search_has_nothing_left_to_do(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    first = run(dataset, tiny_model, tmp_path, trials=2)
    study = folder_digest(tmp_path / "scratch")
    assert run(dataset, tiny_model, tmp_path, trials=2) == first
    assert folder_digest(tmp_path / "scratch") == study


def test_minutes_end_a_search(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    result = run(dataset, tiny_model, tmp_path, minutes=1e-6, tokens_per_trial=200)
    assert len(result["trials"]) == 1
    assert winner(result) == {}


def test_a_search_without_validation_examples_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no validation example"):
        run(write_dataset(tmp_path, validation=0), tiny_model, tmp_path)


def test_a_trial_that_cannot_be_trained_is_an_answer_and_all_of_them_an_error(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    # A method for GPUs stands for whatever a machine cannot train.
    grid = {"method": "grid", "trials": 2, "space": {"method": ["lora", "qlora"]}}
    result = run(dataset, tiny_model, tmp_path / "one", **grid)
    (failed,) = [trial for trial in result["trials"] if trial["state"] == "failed"]
    assert "CUDA" in failed["failure"]
    with pytest.raises(ModelError, match="None of 1 trials came to its end: .*CUDA"):
        run(dataset, tiny_model, tmp_path / "all", method="grid", space={"method": ["qlora"]})


if __name__ == "__main__":
    run(*map(Path, sys.argv[1:4]), method="tpe")
