"""A tiny teacher and students for distillation tests; as a program, it distills once in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests import tiny
from tests.train.material import FACTS, ROOT, SYSTEM, workspace
from vivace.config.train import TrainSettings
from vivace.domain import Example, Message, Model
from vivace.models import identify
from vivace.store import write_examples
from vivace.store.files import read_journal

# Small, quick; a high rate, so that something happens in a few steps.
SETTINGS: dict[str, Any] = {
    "per_device_train_batch_size": 2,
    "eval_steps_fraction": 0.25,
    "early_stopping_patience": 9,
    "max_length": 256,
}
DISTILL: dict[str, Any] = {
    "method": "logits",
    "learning_rate": 5e-3,
    "max_tokens": None,
    "num_train_epochs": 8,
    "max_new_tokens": 12,
}


def build_deep_model(out: Path, layers: int = 4, *, seed: int = 0) -> Path:
    """The tiny model with more layers."""
    before, tiny.LAYERS = tiny.LAYERS, layers
    try:
        return tiny.build_tiny_model(out, seed=seed)
    finally:
        tiny.LAYERS = before


def write_talks(folder: Path, *, validation: int = 4) -> Path:
    """Two exchanges a conversation, eight to learn and some of them again to validate on."""
    rows = []
    for number, fact in enumerate(FACTS):
        talk = (
            Message("user", f"What is fact {number}?"),
            Message("assistant", f"Fact {number} is {fact}."),
            Message("user", "Thanks!"),
            Message("assistant", "You are welcome."),
        )
        rows.append(Example(f"t{number}", talk))
        if number < validation:
            rows.append(Example(f"v{number}", talk, split="validation"))
    write_examples(folder / "examples.jsonl", rows)
    return folder / "examples.jsonl"


def settings_of(changes: dict[str, Any] | None = None, **distill: Any) -> TrainSettings:
    """Settings of [train] with `changes`, and of [train.distill] with the others."""
    return TrainSettings(**{**SETTINGS, **(changes or {}), "distill": {**DISTILL, **distill}})


def run(
    dataset: Path,
    student: Path,
    teacher: Path | None,
    folder: Path,
    progress: Any = None,
    changes: dict[str, Any] | None = None,
    **distill: Any,
) -> dict[str, Any]:
    """Distill a tiny model."""
    from vivace.train.distillation.distill import distill as learn

    models: list[Model | None] = [None if path is None else identify(path) for path in (student, teacher)]
    assert models[0] is not None
    place = workspace(folder, progress)
    return learn(dataset, models[0], models[1], SYSTEM, settings_of(changes, **distill), place, folder)


def kill(dataset: Path, student: Path, teacher: Path, folder: Path, **distill: Any) -> int:
    """Distill in a process of its own, kill it in the middle, and return the last step it told of."""
    words = [*map(str, (dataset, student, teacher, folder)), json.dumps(distill)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    command = [sys.executable, "-m", "tests.train.distillation.material", *words]
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    journal = folder / "scratch" / "history.jsonl"
    deadline = time.monotonic() + 200
    while len(read_journal(journal)) < 13 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.returncode == -signal.SIGKILL, child.stderr.read() if child.stderr else ""
    return int(json.loads(read_journal(journal)[-1])["step"])


def history(folder: Path) -> list[dict[str, Any]]:
    """The rows of a run's history."""
    return [json.loads(line) for line in read_journal(folder / "out" / "history.jsonl")]


if __name__ == "__main__":
    run(*map(Path, sys.argv[1:5]), **json.loads(sys.argv[5]))
