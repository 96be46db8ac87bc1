"""Small datasets and workspaces for training tests; as a program, it tunes once in a process of its own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vivace.config.train import TrainSettings
from vivace.domain import Example, Message, SilentProgress, Task, Workspace
from vivace.models import identify
from vivace.store import write_examples
from vivace.store.files import read_journal

ROOT = Path(__file__).parents[2]
SYSTEM = "Be kind."
FACTS = ["blue", "green", "seven", "Friday", "tea", "north", "gold", "rain"]

# Small, quick, with dropout, so that a resumed run also needs the random state.
SETTINGS: dict[str, Any] = {
    "max_tokens": None,
    "max_validation_examples": 24,
    "num_train_epochs": 8,
    "learning_rate": 2e-2,
    "per_device_train_batch_size": 2,
    "lora_r": 4,
    "lora_alpha": 8,
    "lora_layers_fraction": 1.0,
    "lora_dropout": 0.1,
    "eval_steps_fraction": 0.25,
    "early_stopping_patience": 9,
}


def write_dataset(folder: Path, *, validation: int = 2) -> Path:
    """Eight conversations to learn and some of them again to validate on."""
    rows = []
    for number, fact in enumerate(FACTS):
        talk = (Message("user", f"What is fact {number}?"), Message("assistant", f"Fact {number} is {fact}."))
        rows.append(Example(f"t{number}", talk))
        if number < validation:
            rows.append(Example(f"v{number}", talk, split="validation"))
    write_examples(folder / "examples.jsonl", rows)
    return folder / "examples.jsonl"


def workspace(folder: Path, progress: Any = None) -> Workspace:
    """A stage's place to work in."""
    for name in ("out", "scratch"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    return Workspace(folder / "out", folder / "scratch", progress or SilentProgress())


def run(dataset: Path, model: Path, folder: Path, progress: Any = None, **changes: Any) -> dict[str, Any]:
    """Tune the tiny model."""
    from vivace.train import tune

    settings = TrainSettings(**{**SETTINGS, **changes})
    return tune(dataset, identify(model), SYSTEM, settings, workspace(folder, progress))


def stop_and_go_on(dataset: Path, model: Path, folder: Path, *, after: int = 13, **changes: Any) -> None:
    """Tune the tiny model, break off while a step is told, and tune again to the end."""

    class Stopped(Exception):
        pass

    def stop(notes: int) -> None:
        if notes == after:
            raise Stopped

    try:
        run(dataset, model, folder, progress=Watcher(stop), **changes)
    except Stopped:
        watcher = Watcher()
        run(dataset, model, folder, progress=watcher, **changes)
        assert any("continues after step" in text for text in watcher.said)
        return
    raise AssertionError("the run was over before it could be stopped")


def kill(dataset: Path, model: Path, folder: Path, **changes: Any) -> int:
    """Tune in a process of its own, kill it in the middle, and return the last step it told of."""
    command = [sys.executable, "-m", "tests.train.material", *map(str, (dataset, model, folder)), json.dumps(changes)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
    child = subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    journal = folder / "scratch" / "history.jsonl"
    deadline = time.monotonic() + 200
    while len(read_journal(journal)) < 13 and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert child.returncode == -signal.SIGKILL, child.stderr.read() if child.stderr else ""
    return int(json.loads(read_journal(journal)[-1])["step"])


class Watcher(SilentProgress):
    """Progress that calls back with each step's remark and keeps what was said."""

    def __init__(self, on_note: Any = None) -> None:
        self.said: list[str] = []
        self.advanced: dict[str, float] = {}
        self.totals: dict[str, float | None] = {}
        self.on_note = on_note
        self.notes = 0

    def say(self, text: str) -> None:
        self.said.append(text)

    def task(self, label: str, total: float | None = None) -> Any:
        watcher = self
        self.totals[label] = total
        self.advanced[label] = 0

        class Bar(Task):
            def __enter__(self) -> "Bar":
                return self

            def __exit__(self, *exc: object) -> None:
                return None

            def advance(self, steps: float = 1) -> None:
                watcher.advanced[label] += steps

            def note(self, text: str) -> None:
                if text.startswith("loss"):
                    watcher.notes += 1
                    if watcher.on_note:
                        watcher.on_note(watcher.notes)

        return Bar()


if __name__ == "__main__":
    run(*map(Path, sys.argv[1:4]), **json.loads("".join(sys.argv[4:]) or "{}"))
