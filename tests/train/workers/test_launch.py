"""Several processes train as one: the same result, one story on the terminal, and nothing left behind."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file

from tests.train.material import ROOT, Watcher, run, stop_and_go_on, write_dataset
from vivace.errors import ConfigError, EngineError, ModelError
from vivace.store.files import folder_digest, read_journal

pytestmark = pytest.mark.slow

STEADY: dict[str, Any] = {"lora_dropout": 0.0, "num_train_epochs": 6}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def alone(dataset: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """What one process makes."""
    folder = tmp_path_factory.mktemp("alone")
    return folder, run(dataset, tiny_model, folder, **STEADY)


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read_journal(folder / "out" / "history.jsonl")]


def check_same(folder: Path, alone: Path) -> None:
    for name in ("loss", "validation_loss", "token_accuracy"):
        ours, theirs = ([row[name] for row in history(f) if name in row] for f in (folder, alone))
        np.testing.assert_allclose(ours, theirs, rtol=1e-4)
    weights = [load_file(str(f / "out" / "model" / "adapter_model.safetensors")) for f in (folder, alone)]
    for name, value in weights[1].items():
        np.testing.assert_allclose(weights[0][name], value, atol=1e-4)


def workers_of(folder: Path) -> list[psutil.Process]:
    """The processes that work on this folder's job, the agent first."""
    found = [
        p for p in psutil.process_iter(["cmdline"]) if str(folder / "scratch") in " ".join(p.info["cmdline"] or [])
    ]
    return sorted(found, key=lambda p: "torch.distributed.run" not in p.cmdline())


def wait_until_none(folder: Path) -> None:
    deadline = time.monotonic() + 15
    while workers_of(folder):
        assert time.monotonic() < deadline, "processes are left behind"
        time.sleep(0.05)


def test_two_workers_make_what_one_makes(
    dataset: Path, tiny_model: Path, tmp_path: Path, alone: tuple[Path, dict[str, Any]]
) -> None:
    watcher = Watcher()
    facts = run(dataset, tiny_model, tmp_path, progress=watcher, workers=2, **STEADY)
    assert (facts["workers"], alone[1]["workers"]) == (2, 1)
    assert (facts["steps"], facts["tokens"], facts["best_step"]) == tuple(
        alone[1][name] for name in ("steps", "tokens", "best_step")
    )
    check_same(tmp_path, alone[0])
    assert watcher.advanced["Training"] == watcher.totals["Training"] == facts["tokens"]
    assert watcher.notes >= facts["steps"]
    assert [row["step"] for row in history(tmp_path)] == list(range(facts["steps"] + 1))
    wait_until_none(tmp_path)


def test_all_weights_packed_and_accumulated_are_trained_alike_by_three(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Three share four rows in two packed batches, one takes two of them; gradients of every weight are summed."""
    more: dict[str, Any] = {
        "method": "full",
        "learning_rate": 1e-3,
        "packing": True,
        "num_train_epochs": 3,
        "gradient_accumulation_steps": 2,
    }
    one = run(dataset, tiny_model, tmp_path / "one", **more)
    three = run(dataset, tiny_model, tmp_path / "three", workers=3, **more)
    assert one["best_validation_loss"] == pytest.approx(three["best_validation_loss"], rel=1e-4)
    weights = [load_file(str(tmp_path / f / "out" / "model" / "model.safetensors")) for f in ("one", "three")]
    for name, value in weights[0].items():
        np.testing.assert_allclose(weights[1][name], value, atol=1e-4)


def test_a_dead_worker_ends_the_run_within_seconds_and_another_number_of_them_goes_on(
    dataset: Path, tiny_model: Path, tmp_path: Path, alone: tuple[Path, dict[str, Any]]
) -> None:
    died: list[float] = []

    def kill(notes: int) -> None:
        if notes == 16:
            (second,) = (p for p in workers_of(tmp_path)[1:] if p.environ().get("RANK") == "1")
            died.append(time.monotonic())
            second.send_signal(signal.SIGKILL)

    with pytest.raises(EngineError, match="A training worker ended"):
        run(dataset, tiny_model, tmp_path, progress=Watcher(kill), workers=2, **STEADY)
    assert time.monotonic() - died[0] < 10
    wait_until_none(tmp_path)
    watcher = Watcher()
    run(dataset, tiny_model, tmp_path, progress=watcher, **STEADY)
    assert any("Training continues after step" in text for text in watcher.said)
    check_same(tmp_path, alone[0])


def test_ctrl_c_keeps_the_step_at_hand_and_two_workers_go_on_to_the_same_bits(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    """Dropout included: each worker's noise follows from seed, step and rank."""
    noisy = STEADY | {"lora_dropout": 0.1, "num_train_epochs": 3, "workers": 2}
    run(dataset, tiny_model, tmp_path / "through", **noisy)

    def interrupt(notes: int) -> None:
        if notes == 4:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run(dataset, tiny_model, tmp_path / "stopped", progress=Watcher(interrupt), **noisy)
    finally:
        signal.signal(signal.SIGINT, before)
    wait_until_none(tmp_path / "stopped")
    kept = [int(path.name.rpartition("-")[2]) for path in (tmp_path / "stopped" / "scratch").glob("checkpoint-*")]
    assert 4 <= max(kept) < 12
    run(dataset, tiny_model, tmp_path / "stopped", **noisy)
    assert folder_digest(tmp_path / "stopped" / "out")[0] == folder_digest(tmp_path / "through" / "out")[0]


def test_two_machines_make_the_same_model_each_in_its_own_folder(
    dataset: Path, tiny_model: Path, tmp_path: Path, alone: tuple[Path, dict[str, Any]]
) -> None:
    """torchrun's variables name the other machine; here both are this one."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    told = {"PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": str(port), "GLOO_SOCKET_IFNAME": "lo"}
    command = [sys.executable, "-m", "tests.train.material", str(dataset), str(tiny_model)]
    machines = [
        subprocess.Popen(
            [*command, str(tmp_path / str(rank)), json.dumps(STEADY | {"workers": 1 + rank})],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT / "src")} | told | {"PET_NODE_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [machine.wait(280) for machine in machines] == [0, 0]
    assert folder_digest(tmp_path / "0" / "out")[0] == folder_digest(tmp_path / "1" / "out")[0]
    check_same(tmp_path / "0", alone[0])


def test_whoever_breaks_off_leaves_no_process_behind(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    stop_and_go_on(dataset, tiny_model, tmp_path, after=9, workers=2, **STEADY)
    wait_until_none(tmp_path)


def test_workers_end_when_the_process_that_started_them_is_killed(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    from tests.train.material import kill

    seen: list[psutil.Process] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(0.5):
            seen.extend(workers_of(tmp_path)[len(seen) :])

    looking = threading.Thread(target=watch)
    looking.start()
    try:
        kill(dataset, tiny_model, tmp_path, workers=2, **STEADY)
    finally:
        stop.set()
        looking.join()
    assert len(seen) >= 3
    wait_until_none(tmp_path)


def test_what_a_worker_refuses_is_told_as_one_process_tells_it(dataset: Path, tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'q_proj'"):
        run(dataset, tiny_model, tmp_path, workers=2, lora_target_modules=["q_prj"])
    with pytest.raises(ModelError, match="not a finite number"):
        run(dataset, tiny_model, tmp_path, workers=2, learning_rate=1e30)
    with pytest.raises(ConfigError, match="a step has only 2 conversations to share"):
        run(dataset, tiny_model, tmp_path, workers=3)
    assert not (tmp_path / "out" / "model").exists()
    wait_until_none(tmp_path)
