"""Several trials at once on the tiny model: each exactly once, whatever dies."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.train.material import SETTINGS, SYSTEM, Watcher, workspace, write_dataset
from vivace.config.train import TrainSettings
from vivace.errors import ModelError
from vivace.models import identify
from vivace.train.search.parallel import worker_environments
from vivace.train.search.trials import search

ROOT = Path(__file__).parents[3]
SPACE = {"learning_rate": {"low": 1e-4, "high": 1e-1, "log": True}, "lora_r": [2, 4]}
WORKER = "vivace.train.search.worker"
slow = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def run(dataset: Path, model: Path, folder: Path, progress: Any = None, **wanted: Any) -> dict[str, Any]:
    wanted = {"method": "random", "trials": 4, "tokens_per_trial": 400, "space": SPACE, "workers": 2} | wanted
    settings = TrainSettings(**{**SETTINGS, "learning_rate": 1e-3, "search": wanted})
    search(dataset, identify(model), SYSTEM, settings, workspace(folder, progress))
    result: dict[str, Any] = json.loads((folder / "out" / "search.json").read_text())
    return result


@pytest.fixture
def start(dataset: Path, tiny_model: Path, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a search in a process of its own; whatever is left of it in the end is killed."""
    started: list[subprocess.Popen[str]] = []

    def begin(**wanted: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.train.search.test_parallel"]
        command += [*map(str, (dataset, tiny_model, tmp_path)), json.dumps(wanted)]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), str(ROOT)])}
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        started.append(child)
        return child

    yield begin
    for child in started:
        left = workers_of(child)
        child.kill()
        child.communicate()
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()


def workers_of(child: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return [each for each in psutil.Process(child.pid).children() if WORKER in " ".join(each.cmdline())]
    except psutil.NoSuchProcess:
        return []


def wait_for(child: subprocess.Popen[str], what: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline:
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            if found := what():
                return found
        assert child.poll() is None, child.communicate()[1]
        time.sleep(0.005)
    raise AssertionError("it never came")


def at_checkpoint(folder: Path, number: int) -> Path | None:
    return next((folder / "scratch" / f"trial-{number}" / "scratch").glob("checkpoint-*/checkpoint.json"), None)


def begun(folder: Path) -> bool:
    """Whether a trial has been interrupted, or is running, beyond its first checkpoint."""
    return any(at_checkpoint(folder, number) for number in range(6))


def check_whole(result: dict[str, Any], trials: int) -> None:
    """Each trial was run exactly once, to its end."""
    assert [trial["number"] for trial in result["trials"]] == list(range(trials))
    assert {trial["state"] for trial in result["trials"]} <= {"complete", "pruned"}
    for trial in result["trials"]:
        milestones = [int(number) for number in trial["validation_losses"]]
        assert milestones == list(range(1, len(milestones) + 1))


@slow
def test_two_workers_run_each_trial_of_the_budget_once(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    seen = Watcher()
    result = run(dataset, tiny_model, tmp_path, seen, method="tpe", trials=6)
    check_whole(result, 6)
    assert result["trials"][0]["settings"] == result["default"]
    points = [tuple(trial["settings"].values()) for trial in result["trials"]]
    assert len(set(points)) == 6
    assert seen.advanced["Searching for settings"] == seen.totals["Searching for settings"] == 6
    assert not list((tmp_path / "scratch").glob("trial-*"))
    assert len(list((tmp_path / "scratch").glob("worker-*.log"))) == 2


@slow
def test_a_trial_comes_to_the_same_beside_others_as_alone(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    grid: dict[str, Any] = {
        "method": "grid",
        "pruner": "none",
        "trials": 4,
        "space": {"learning_rate": [1e-3, 1e-2, 5e-2]},
    }
    alone = run(dataset, tiny_model, tmp_path / "alone", workers=1, **grid)
    beside = run(dataset, tiny_model, tmp_path / "beside", workers=3, **grid)
    assert beside["best"] == alone["best"]
    for first, second in zip(alone["trials"], beside["trials"], strict=True):
        assert second["settings"] == first["settings"]
        assert second["validation_loss"] == pytest.approx(first["validation_loss"], abs=1e-4)


@slow
def test_a_bad_trial_ends_early_by_what_the_others_found(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    result = run(
        dataset, tiny_model, tmp_path, method="grid", trials=5, space={"learning_rate": [1e-3, 2e-2, 1e-2, 1e-6, 1e-5]}
    )
    by_rate = {trial["settings"]["learning_rate"]: trial["state"] for trial in result["trials"]}
    assert "pruned" in (by_rate[1e-6], by_rate[1e-5])
    assert by_rate[2e-2] == "complete"


@slow
def test_a_killed_worker_loses_no_trial(tmp_path: Path, start: Callable[..., subprocess.Popen[str]]) -> None:
    child = start(trials=3, tokens_per_trial=1200, pruner="none")
    wait_for(child, lambda: at_checkpoint(tmp_path, 0))
    victim = wait_for(child, lambda: workers_of(child))[0]
    victim.send_signal(signal.SIGKILL)
    out, err = child.communicate(timeout=150)
    assert child.returncode == 0, err
    assert re.search(r"The process of trial \d ended unexpectedly \(SIGKILL.*goes on in a new one", out)
    check_whole(json.loads((tmp_path / "out" / "search.json").read_text()), 3)


@slow
def test_a_trial_whose_process_always_dies_is_failed_and_told(
    dataset: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that aborts at its start stands for a library that takes it down."""
    seen = Watcher()
    broken = tmp_path / "sitecustomize"
    broken.mkdir()
    (broken / "sitecustomize.py").write_text(f"import os, sys\nif sys.orig_argv[3:4] == ['{WORKER}']: os.abort()\n")
    monkeypatch.setenv("PYTHONPATH", str(broken))
    with pytest.raises(ModelError, match="None of 2 trials came to its end: The process of trial . ended unexpectedly"):
        run(dataset, tiny_model, tmp_path, seen, trials=2)
    assert sum("goes on in a new one" in text for text in seen.said) == 2
    assert sum("SIGABRT), again: the trial has failed" in text for text in seen.said) == 2


@slow
def test_where_memory_is_for_one_alone_the_trials_go_on_one_by_one(
    dataset: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The operating system tells a worker that has an older one beside it that no memory is free."""
    seen = Watcher()
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        f"if sys.orig_argv[3:4] == ['{WORKER}']:\n"
        "    import os, psutil\n"
        "    told = psutil.virtual_memory\n"
        "    def virtual_memory():\n"
        "        beside = [p.pid for p in psutil.Process(os.getppid()).children()]\n"
        "        return told() if os.getpid() == min(beside) else told()._replace(available=1)\n"
        "    psutil.virtual_memory = virtual_memory\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    result = run(dataset, tiny_model, tmp_path, seen, trials=3)
    check_whole(result, 3)
    (told,) = [text for text in seen.said if "does not fit beside the others" in text]
    assert "one process less" in told


@slow
def test_after_the_searchs_own_death_its_workers_end_and_the_trials_go_on(
    dataset: Path, tiny_model: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    wanted = {"trials": 4, "tokens_per_trial": 1200, "pruner": "none"}
    child = start(**wanted)
    wait_for(child, lambda: at_checkpoint(tmp_path, 1))
    workers = workers_of(child)
    child.send_signal(signal.SIGKILL)
    child.wait()
    _gone, left = psutil.wait_procs(workers, timeout=10)
    assert len(workers) == 2
    assert not left
    result = run(dataset, tiny_model, tmp_path, **wanted)
    check_whole(result, 4)


@slow
def test_an_interrupt_ends_all_and_loses_nothing(
    dataset: Path, tiny_model: Path, tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    wanted = {"trials": 6, "tokens_per_trial": 1200, "pruner": "none"}
    child = start(**wanted)
    workers = wait_for(child, lambda: begun(tmp_path) and len(found := workers_of(child)) == 2 and found)
    pressed = time.monotonic()
    child.send_signal(signal.SIGINT)
    _out, err = child.communicate(timeout=40)
    assert time.monotonic() - pressed < 15
    assert "KeyboardInterrupt" in err
    assert not [each for each in workers if each.is_running() and each.status() != psutil.STATUS_ZOMBIE]
    assert begun(tmp_path)
    result = run(dataset, tiny_model, tmp_path, **wanted)
    check_whole(result, 6)


def test_cores_and_gpus_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    alone = worker_environments(3, 8, [])
    assert [each["OMP_NUM_THREADS"] for each in alone] == ["2", "2", "2"]
    assert all("CUDA_VISIBLE_DEVICES" not in each for each in alone)
    assert worker_environments(4, 2, [])[0]["OMP_NUM_THREADS"] == "1"
    shared = worker_environments(3, 8, ["0", "GPU-b"])
    assert [each["CUDA_VISIBLE_DEVICES"] for each in shared] == ["0", "GPU-b", "0"]
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert worker_environments(2, 8, [])[0]["OMP_NUM_THREADS"] == "1"


def test_how_many_workers_there_are_is_part_of_no_key() -> None:
    assert TrainSettings(search={"workers": 3}).model_dump() == TrainSettings().model_dump()


if __name__ == "__main__":

    class Told(Watcher):
        def say(self, text: str) -> None:
            print(text, flush=True)

    run(*map(Path, sys.argv[1:4]), Told(), **json.loads(sys.argv[4]))
