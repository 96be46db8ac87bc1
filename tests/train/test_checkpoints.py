"""Checkpoints are whole or absent, and hold what training needs to go on."""

import json
import random
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from vivace.train.checkpoints import (
    load_optimizer,
    load_random_state,
    load_weights,
    newest_checkpoint,
    prune_checkpoints,
    write_checkpoint,
)


def trainer(seed: int = 0, steps: int = 2) -> Any:
    torch.manual_seed(seed)
    model = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
    made = SimpleNamespace(model=model, optimizer=optimizer, lr_scheduler=scheduler)
    for _ in range(steps):
        one_step(made)
    return made


def one_step(it: Any) -> None:
    it.model(torch.rand(4, 3)).square().sum().backward()
    it.optimizer.step()
    it.lr_scheduler.step()
    it.optimizer.zero_grad()


def write(scratch: Path, step: int, key: str = "run", it: Any = None) -> Path:
    return write_checkpoint(scratch, step, key, {"best_step": step}, it or trainer(), {"global_step": step}).folder


def test_a_checkpoint_continues_weights_optimizer_schedule_and_random_numbers(tmp_path: Path) -> None:
    first = trainer()
    random.seed(5)
    np.random.seed(5)
    folder = write(tmp_path, 2, it=first)
    one_step(first)
    drawn = (random.random(), np.random.rand(), torch.rand(3))

    second = trainer(seed=9, steps=1)
    load_weights(second.model, folder)
    load_optimizer(second.optimizer, second.lr_scheduler, folder)
    load_random_state(folder)
    one_step(second)
    again = (random.random(), np.random.rand(), torch.rand(3))

    for left, right in zip(first.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(left, right)
    assert first.optimizer.param_groups[0]["lr"] == second.optimizer.param_groups[0]["lr"]
    assert drawn[:2] == again[:2]
    assert torch.equal(drawn[2], again[2])


def test_there_is_no_pickle_in_a_checkpoint(tmp_path: Path) -> None:
    folder = write(tmp_path, 1)
    assert {path.suffix for path in folder.iterdir()} == {".safetensors", ".json"}


def test_the_newest_whole_checkpoint_of_this_run_counts(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path, "run") is None
    write(tmp_path, 2)
    write(tmp_path, 11)
    write(tmp_path, 30, key="another run")
    found = newest_checkpoint(tmp_path, "run")
    assert found is not None
    assert (found.step, found.notes) == (11, {"best_step": 11})


@pytest.mark.parametrize("damage", ["no manifest", "torn manifest", "changed weights", "a file less", "only begun"])
def test_a_damaged_checkpoint_is_none(tmp_path: Path, damage: str) -> None:
    write(tmp_path, 1)
    broken = write(tmp_path, 2)
    manifest = broken / "checkpoint.json"
    if damage == "no manifest":
        manifest.unlink()
    elif damage == "torn manifest":
        manifest.write_bytes(manifest.read_bytes()[:20])
    elif damage == "changed weights":
        data = bytearray((broken / "weights.safetensors").read_bytes())
        data[-1] ^= 1
        (broken / "weights.safetensors").write_bytes(data)
    elif damage == "a file less":
        (broken / "random.json").unlink()
    else:
        shutil.move(broken, tmp_path / ".checkpoint-2.partial")
    found = newest_checkpoint(tmp_path, "run")
    assert found is not None
    assert found.step == 1


def test_the_last_two_and_the_best_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 10):
        write(tmp_path, step)
    (tmp_path / ".checkpoint-9.partial").mkdir()
    prune_checkpoints(tmp_path, best=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-10", "checkpoint-2", "checkpoint-4"]


def test_checkpoints_that_are_to_be_averaged_are_kept(tmp_path: Path) -> None:
    for step in (1, 2, 3, 4, 10):
        write(tmp_path, step)
    prune_checkpoints(tmp_path, 2, [2, 1])
    assert sorted(int(path.name.rpartition("-")[2]) for path in tmp_path.iterdir()) == [1, 2, 4, 10]


def test_a_manifest_names_its_files(tmp_path: Path) -> None:
    told = json.loads((write(tmp_path, 1) / "checkpoint.json").read_text())
    assert "weights.safetensors" in told["files"]
