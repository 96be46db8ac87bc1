"""What this machine gives an engine: cores, memory, and the environment its process starts with."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")


def engine_threads(wanted: int | None = None) -> int:
    """Return the threads an engine computes with: as wanted, else the cores this process may really use."""
    if wanted is not None:
        return max(1, wanted)
    cores = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    return max(1, min(cores, _cgroup_cores(_read(_CGROUP / "cpu.max"))))


def free_memory_bytes() -> int:
    """Return the memory that can still be had: the machine's or, inside a container, what is left of its limit."""
    free = int(psutil.virtual_memory().available)
    limit, used = _read(_CGROUP / "memory.max"), _read(_CGROUP / "memory.current")
    if limit.isdigit() and used.isdigit():
        free = min(free, max(0, int(limit) - int(used)))
    return free


def peak_memory_bytes(pid: int) -> int:
    """Return the most memory a process ever held, 0 when it is gone."""
    status = _read(Path(f"/proc/{pid}/status"))
    if found := re.search(r"^VmHWM:\s+(\d+) kB", status, re.MULTILINE):
        return int(found[1]) * 1024
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return int(getattr(memory, "peak_wset", memory.rss))


def child_environment(threads: int, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of an engine's process: as many BLAS threads as wanted, and nothing that dials out."""
    count = str(threads)
    return {
        **environment,
        "OMP_NUM_THREADS": count,
        "OPENBLAS_NUM_THREADS": count,
        "MKL_NUM_THREADS": count,
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "PYTHONUNBUFFERED": "1",
    }


def _cgroup_cores(cpu_max: str) -> int:
    quota, _, period = cpu_max.partition(" ")
    if not quota.isdigit() or not period.strip().isdigit() or int(period) == 0:
        return 1 << 16
    return max(1, math.ceil(int(quota) / int(period)))


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""
