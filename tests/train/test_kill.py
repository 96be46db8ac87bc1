"""Training that is killed again and again, at any moment, ends with the same weights."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.train.material import ROOT, SETTINGS, write_dataset
from vivace.domain import SilentProgress, Workspace
from vivace.loop.project import open_project

pytestmark = pytest.mark.slow

KILLS, IN_A_CHECKPOINT, STEPS = 40, 15, 200
TRAIN = SETTINGS | {
    "num_train_epochs": STEPS / 4,  # of 8 conversations, 2 a step
    "eval_steps_fraction": 0.05,
    "early_stopping_patience": 99,
    "max_validation_examples": 2,
}


class Zygote:
    """The process that forks the commands."""

    def __init__(self) -> None:
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
        environment |= {"OMP_NUM_THREADS": "1", "NO_COLOR": "1"}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.train.zygote"],
            cwd=ROOT, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def start(self, *words: str) -> int:
        """Start a command and return its process id."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"words": words}) + "\n")
        self.process.stdin.flush()
        return int(self._read()["pid"])

    def code(self) -> int:
        """Wait for the command's end and return its exit code."""
        return int(self._read()["code"])

    def _read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the zygote died"
        return dict(json.loads(line))


@contextmanager
def zygote() -> Iterator[Zygote]:
    made = Zygote()
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()


def make_project(folder: Path, model: Path) -> Path:
    """A project on the tiny model with eight conversations to learn."""
    folder.mkdir(parents=True)
    tables = {"project": {"name": "kill", "system": "Be kind."}, "models": {"base": str(model)}, "train": TRAIN}
    lines = []
    for table, values in tables.items():
        lines += [f"[{table}]", *(f"{k} = {json.dumps(v)}" for k, v in values.items() if v is not None)]
        lines += ['max_tokens = ""', ""] if table == "train" else [""]
    (folder / "vivace.toml").write_text("\n".join(lines))

    def work(workspace: Workspace) -> dict[str, Any]:
        write_dataset(workspace.out)
        return {}

    with open_project(folder, SilentProgress()) as opened:
        opened.store.run("data", work, kind="dataset", settings={}, parents={}, progress=SilentProgress())
    return folder


def made(project: Path) -> str | None:
    """The hash of the training artifact's content, if it is there."""
    found = [json.loads(path.read_text()) for path in project.glob(".vivace/artifacts/model/*/manifest.json")]
    return next((manifest["id"] for manifest in found if manifest["origin"]["stage"] == "train"), None)


def scratch(project: Path) -> Path | None:
    return next(project.glob(".vivace/work/*/scratch"), None)


def steps_told(project: Path) -> int:
    """How many rows the history has by now."""
    found = scratch(project)
    try:
        return (found / "history.jsonl").read_bytes().count(b"\n") if found else 0
    except FileNotFoundError:
        return 0


def begun_checkpoints(project: Path) -> set[tuple[str, int, int]]:
    """The checkpoints that are begun and not yet in their places; what an earlier kill left is among them."""
    found = scratch(project)
    begun = set()
    for path in found.glob(".checkpoint-*.partial") if found else ():
        with suppress(FileNotFoundError):
            told = path.stat()
            begun.add((path.name, told.st_ino, told.st_mtime_ns))
    return begun


def kill_at_random(project: Path, pid: int, chance: random.Random) -> None:
    """Kill while it starts, or a random time after its first step: in a step, a validation, or between them."""
    if chance.random() < 0.9:
        told = steps_told(project)
        while alive(pid) and steps_told(project) == told:
            time.sleep(0.002)
    time.sleep(chance.uniform(0, 0.4))
    strike(pid)


def kill_in_a_checkpoint(project: Path, pid: int, chance: random.Random, before: set[Any]) -> None:
    """Kill when a checkpoint is begun, or a moment later: the first one, the second or the third of this run."""
    for number in range(1 + chance.randint(0, 2)):
        while number and alive(pid) and begun_checkpoints(project) - before:
            time.sleep(0.0005)
        while alive(pid) and not begun_checkpoints(project) - before:
            time.sleep(0.0002)
    time.sleep(chance.choice((0, 0, 0.001, 0.003)))
    strike(pid)


def strike(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    """Whether the process runs: what is over but not yet waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):  # gone before, or while it was read
        return False


@pytest.mark.timeout(900)
def test_forty_kills_at_any_moment_end_with_the_same_weights(tiny_model: Path, tmp_path: Path) -> None:
    chance = random.Random(40)
    project = make_project(tmp_path / "killed", tiny_model)
    with zygote() as commands:
        undisturbed = make_project(tmp_path / "undisturbed", tiny_model)
        commands.start(str(undisturbed))
        assert commands.code() == 0
        expected = made(undisturbed)
        rows = (next(undisturbed.glob(".vivace/artifacts/model/*")) / "files" / "history.jsonl").read_text().count("\n")
        assert rows == STEPS + 1
        in_a_checkpoint = elsewhere = 0
        while in_a_checkpoint < IN_A_CHECKPOINT or in_a_checkpoint + elsewhere < KILLS:
            before = begun_checkpoints(project)
            pid = commands.start(str(project))
            if in_a_checkpoint * KILLS < (in_a_checkpoint + elsewhere + 1) * IN_A_CHECKPOINT:
                kill_in_a_checkpoint(project, pid, chance, before)
            else:
                kill_at_random(project, pid, chance)
            code = commands.code()
            if code == -signal.SIGKILL:
                assert made(project) is None
                written = bool(begun_checkpoints(project) - before)
                in_a_checkpoint, elsewhere = in_a_checkpoint + written, elsewhere + (not written)
                print(f"{in_a_checkpoint} kills in a checkpoint, {elsewhere} elsewhere, {steps_told(project)} rows")
                continue
            # It was over before it could be killed: with the same weights, and once more from the start.
            assert (code, made(project)) == (0, expected)
            shutil.rmtree(project)
            make_project(project, tiny_model)
        commands.start(str(project))
        assert commands.code() == 0
    assert made(project) == expected


def test_a_second_run_on_the_same_project_refuses_at_once(tiny_model: Path, tmp_path: Path) -> None:
    project = make_project(tmp_path / "held", tiny_model)
    with zygote() as first, zygote() as second:
        pid = first.start(str(project))
        while steps_told(project) < 3:
            assert alive(pid)
            time.sleep(0.01)
        began = time.monotonic()
        second.start(str(project))
        code = second.code()
        assert (code, alive(pid)) == (5, True)
        assert time.monotonic() - began < 5
        os.kill(pid, signal.SIGKILL)
        assert first.code() == -signal.SIGKILL
        assert second.process.stderr is not None
        assert f"Another vivace command (process {pid}) is working" in second.process.stderr.readline()
        # The lock went with the process that held it.
        second.start(str(project))
        assert second.code() == 0
