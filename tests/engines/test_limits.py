"""An engine takes what the machine has, and says so when that is not enough."""

import asyncio
import os
from pathlib import Path

import pytest

from tests.engines.asking import outcome
from vivace.domain import Model
from vivace.engines import engine_threads, limits, open_engine, process
from vivace.engines.limits import child_environment, free_memory_bytes, peak_memory_bytes
from vivace.errors import ResourceError


def test_threads_are_as_wanted_or_the_cores_this_process_may_use() -> None:
    assert engine_threads(7) == 7
    assert engine_threads(0) == 1
    assert 1 <= engine_threads() <= len(os.sched_getaffinity(0))


def test_fewer_cores_allowed_are_fewer_threads() -> None:
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert engine_threads() == 1
    finally:
        os.sched_setaffinity(0, allowed)


@pytest.mark.parametrize(
    ("cpu_max", "threads"), [("max 100000", 64), ("150000 100000", 2), ("50000 100000", 1), ("", 64), ("100000 0", 64)]
)
def test_a_containers_share_of_cores_limits_the_threads(cpu_max: str, threads: int) -> None:
    assert min(64, limits._cgroup_cores(cpu_max)) == threads


def test_a_containers_memory_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert free_memory_bytes() > 100_000_000
    monkeypatch.setattr(limits, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("400000\n")
    assert free_memory_bytes() == 600_000


def test_weights_that_do_not_fit_are_refused_with_the_figures(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "free_memory_bytes", lambda: 100_000)
    model = Model("tiny", tiny_model, "hf", "fp32")
    error = asyncio.run(outcome(open_engine("transformers", model).__aenter__()))
    assert isinstance(error, ResourceError)
    assert "0 MB are free" in str(error)


def test_peak_memory_is_of_the_process_and_0_once_it_is_gone() -> None:
    assert peak_memory_bytes(os.getpid()) > 10_000_000
    assert peak_memory_bytes(2**22 + 1) == 0


def test_the_process_may_not_dial_out_nor_take_more_threads_than_given() -> None:
    environment = child_environment(3, {"OMP_NUM_THREADS": "64", "KEPT": "yes"})
    assert environment["OMP_NUM_THREADS"] == "3"
    assert environment["HF_HUB_OFFLINE"] == "1"
    assert environment["KEPT"] == "yes"
