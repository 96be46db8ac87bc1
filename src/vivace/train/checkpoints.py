"""Where training stood, on disk: safetensors and JSON, each checkpoint whole or absent."""

import json
import os
import random
import shutil
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from msgspec import Struct
from safetensors.torch import load_file, save_file

from vivace.store.files import digest_of, disk_errors, folder_digest, sync_folder, sync_tree

MANIFEST = "checkpoint.json"
PREFIX = "checkpoint-"
KEEP_LAST = 2


class Checkpoint(Struct, frozen=True):
    """A whole checkpoint and what was known when it was made."""

    folder: Path
    step: int
    notes: dict[str, Any]


def write_checkpoint(
    scratch: Path, step: int, key: str, notes: dict[str, Any], trainer: Any, state_json: Mapping[str, Any]
) -> Checkpoint:
    """Write weights, optimizer, schedule and random state of a trainer under `scratch` and return the checkpoint."""
    final = scratch / f"{PREFIX}{step}"
    aside = scratch / f".{PREFIX}{step}.partial"
    with disk_errors(scratch):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        save_file(trained_weights(trainer.model), str(aside / "weights.safetensors"))
        _save_optimizer(trainer.optimizer, aside)
        _write_json(aside / "scheduler.json", trainer.lr_scheduler.state_dict())
        _save_random_state(aside)
        _write_json(aside / "trainer_state.json", state_json)
        digest, files = folder_digest(aside)
        _write_json(
            aside / MANIFEST, {"step": step, "key": key, "digest": digest, "files": sorted(files), "notes": notes}
        )
        sync_tree(aside)
        shutil.rmtree(final, ignore_errors=True)
        os.replace(aside, final)
        sync_folder(scratch)
    return Checkpoint(final, step, notes)


def newest_checkpoint(scratch: Path, key: str) -> Checkpoint | None:
    """Return the latest whole checkpoint of the run that `key` names; broken, foreign and partial ones are no more."""
    found = [checkpoint for checkpoint in _all(scratch) if _is_whole(checkpoint, key)]
    return max(found, key=lambda checkpoint: checkpoint.step, default=None)


def prune_checkpoints(scratch: Path, best: int | None, others: Collection[int] = ()) -> None:
    """Delete all but the last two checkpoints, the best one and those of the steps `others`."""
    steps = sorted(checkpoint.step for checkpoint in _all(scratch))
    for step in steps[:-KEEP_LAST]:
        if step != best and step not in others:
            shutil.rmtree(scratch / f"{PREFIX}{step}", ignore_errors=True)
    for rest in scratch.glob(f".{PREFIX}*.partial"):
        shutil.rmtree(rest, ignore_errors=True)


def trained_weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights that change, by name; tied ones once."""
    return {name: p.detach().cpu().contiguous() for name, p in model.named_parameters() if p.requires_grad}


def load_weights(model: torch.nn.Module, folder: Path) -> None:
    """Put a checkpoint's weights into the model that wrote them."""
    saved = load_file(str(folder / "weights.safetensors"))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(saved[name])


def load_optimizer(optimizer: Any, scheduler: Any, folder: Path) -> None:
    """Continue the optimizer and the learning rate schedule."""
    plain = json.loads((folder / "optimizer.json").read_text())
    state: dict[int, dict[str, Any]] = {int(index): dict(values) for index, values in plain["state"].items()}
    for name, tensor in load_file(str(folder / "optimizer.safetensors")).items():
        index, _, part = name.partition(".")
        state.setdefault(int(index), {})[part] = tensor
    groups = [group | {"betas": tuple(group["betas"])} for group in plain["param_groups"]]
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    scheduler.load_state_dict(json.loads((folder / "scheduler.json").read_text()))


def load_random_state(folder: Path) -> None:
    """Continue the random numbers of Python, NumPy and torch."""
    plain = json.loads((folder / "random.json").read_text())
    tensors = load_file(str(folder / "random.safetensors"))
    version, numbers, gauss = plain["python"]
    random.setstate((version, tuple(numbers), gauss))
    name, position, has_gauss, cached = plain["numpy"]
    np.random.set_state((name, tensors["numpy"].numpy().astype(np.uint32), position, has_gauss, cached))
    torch.set_rng_state(tensors["torch"])
    cuda = [tensors[name] for name in sorted(tensors) if name.startswith("cuda.")]
    if cuda and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(cuda[: torch.cuda.device_count()])


def _save_optimizer(optimizer: Any, folder: Path) -> None:
    whole = optimizer.state_dict()
    tensors: dict[str, torch.Tensor] = {}
    plain: dict[str, dict[str, Any]] = {}
    for index, values in whole["state"].items():
        for part, value in values.items():
            if isinstance(value, torch.Tensor):
                tensors[f"{index}.{part}"] = value.detach().cpu().contiguous()
            else:
                plain.setdefault(str(index), {})[part] = value
    save_file(tensors, str(folder / "optimizer.safetensors"))
    _write_json(folder / "optimizer.json", {"state": plain, "param_groups": whole["param_groups"]})


def _save_random_state(folder: Path) -> None:
    name, numbers, position, has_gauss, cached = np.random.get_state()
    tensors = {"numpy": torch.from_numpy(np.asarray(numbers).astype(np.int64)), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors |= {f"cuda.{i:03}": state for i, state in enumerate(torch.cuda.get_rng_state_all())}
    save_file(tensors, str(folder / "random.safetensors"))
    plain = {"python": random.getstate(), "numpy": [name, int(position), int(has_gauss), float(cached)]}
    _write_json(folder / "random.json", plain)


def _all(scratch: Path) -> Iterator[Checkpoint]:
    for path in scratch.glob(f"{PREFIX}*/{MANIFEST}"):
        try:
            told = json.loads(path.read_text())
            yield Checkpoint(path.parent, int(told["step"]), told["notes"])
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _is_whole(checkpoint: Checkpoint, key: str) -> bool:
    told = json.loads((checkpoint.folder / MANIFEST).read_text())
    _, files = folder_digest(checkpoint.folder)
    files.pop(MANIFEST)
    return bool(told["key"] == key and told["digest"] == digest_of(files) and told["files"] == sorted(files))


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
