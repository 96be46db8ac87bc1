"""Look at the machine: what is there, what is missing, and how to get it."""

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import psutil
from msgspec import Struct

from vivace.config import FILE_NAME, find_config, load
from vivace.errors import VivaceError
from vivace.store.files import free_bytes

LOOP_PACKAGES = ("torch", "transformers", "trl", "peft", "nncf", "onnxruntime_genai", "sacrebleu", "plotly")
DATA_PACKAGES = ("ftfy", "rensa", "sklearn", "cleanlab", "markitdown", "trafilatura", "pyarrow")
SERVE_PACKAGES = ("openvino", "openvino_genai", "tokenizers", "starlette", "uvicorn")
_DISTRIBUTIONS = {"sklearn": "scikit-learn"}
LOOP_DISK_BYTES = 6_000_000_000
LOOP_MEMORY_BYTES = 6_000_000_000
# What Linux calls a unit → what people call it.
VECTOR_UNITS = {
    "avx2": "AVX2", "avx512f": "AVX-512", "avx512_vnni": "AVX-512 VNNI", "avx_vnni": "AVX VNNI",
    "avx512_bf16": "AVX-512 BF16", "amx_int8": "AMX INT8", "amx_bf16": "AMX BF16",
    "asimd": "NEON", "asimddp": "NEON dot product", "sve": "SVE",
}  # fmt: skip


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "warn", "bad"]
    detail: str
    hint: str = ""


def examine(project: Path) -> list[Finding]:
    """Return what was found, in the order a person would ask."""
    return [
        _python(),
        _cores(),
        _speed(),
        _memory(),
        _disk(project),
        _accelerator(),
        *_packages(),
        _config(project),
    ]


def _python() -> Finding:
    state: Literal["ok", "bad"] = "ok" if sys.version_info >= (3, 11) else "bad"
    return Finding("Python", state, platform.python_version(), "" if state == "ok" else "Install Python 3.11 or newer.")


def _cores() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    known = _cpu_flags()
    units = [unit for flag, unit in VECTOR_UNITS.items() if flag in known]
    busy = psutil.cpu_percent(interval=0.3)
    hint = "Other programs use the processor now: benchmarks would be noisy." if busy > 25 else ""
    told = f"{usable} cores, {', '.join(units) or 'no vector units known'}, {busy:.0f} % busy"
    return Finding("Processor", "warn" if hint else "ok", told, hint)


def _cpu_flags() -> set[str]:
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return {"asimd", "asimddp"}  # every Apple chip has them; there is no file that says so
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return set(lines[0].split()) if lines else set()


def _speed() -> Finding:
    """Tell what memory and arithmetic can do at best: measured at the first time, remembered then."""
    from vivace.bench.roofline import QUIET_BELOW, roofline

    try:
        found = roofline()
    except VivaceError as error:
        return Finding("Speed", "warn", error.message, error.hint)
    told = f"{found.sentence}, measured {found.measured_at[:10]}"
    if found.foreign_cpu_fraction > QUIET_BELOW:
        hint = "Other programs used the processor then: it can do more. It is measured anew once they do not."
        return Finding("Speed", "warn", told, hint)
    return Finding("Speed", "ok", told)


def _memory() -> Finding:
    memory = psutil.virtual_memory()
    told = f"{memory.available / 1e9:.1f} GB available of {memory.total / 1e9:.1f} GB"
    if memory.available < LOOP_MEMORY_BYTES:
        return Finding("Memory", "warn", told, "Training the 135M example needs about 6 GB; serving needs about 1 GB.")
    return Finding("Memory", "ok", told)


def _disk(project: Path) -> Finding:
    free = free_bytes(project.resolve())
    if free < LOOP_DISK_BYTES:
        return Finding("Disk", "warn", f"{free / 1e9:.1f} GB free", "The loop on the 135M example needs about 6 GB.")
    return Finding("Disk", "ok", f"{free / 1e9:.1f} GB free at {project.resolve()}")


def _accelerator() -> Finding:
    found = []
    if shutil.which("nvidia-smi") or Path("/proc/driver/nvidia/version").exists():
        found.append("an NVIDIA driver (CUDA)")
    if Path("/dev/kfd").exists() or shutil.which("rocm-smi"):
        found.append("an AMD driver (ROCm)")
    if sys.platform == "darwin" and platform.machine() == "arm64":
        found.append("Apple silicon (Metal)")
    if list(Path("/dev").glob("accel[0-9]*")) or os.environ.get("TPU_NAME"):
        found.append("an accelerator such as a TPU")
    if found:
        return Finding("Accelerator", "ok", f"{', '.join(found)}; training uses it where torch can")
    return Finding("Accelerator", "ok", "none found (no CUDA, ROCm, Metal or TPU); everything runs on the processor")


def _packages() -> list[Finding]:
    found = []
    for what, names, hint in (
        ("Serving", SERVE_PACKAGES, 'pip install "vivace"'),
        ("Data", DATA_PACKAGES, 'pip install "vivace[loop]"'),
        ("Training and evaluation", LOOP_PACKAGES, 'pip install "vivace[loop]"'),
        ("GGUF files", ("xllamacpp", "gguf"), 'pip install "vivace[loop]"'),
        ("Exports for GPU servers", ("llmcompressor",), 'pip install "vivace[vllm]"'),
        ("Models of other servers", ("aiohttp",), 'pip install "vivace[remote]"'),
        ("Tasks of lm-eval", ("lm_eval",), 'pip install "vivace[lm-eval]"'),
    ):
        missing = [name for name in names if find_spec(name) is None]
        if missing:
            found.append(Finding(what, "bad" if what == "Serving" else "warn", f"{', '.join(missing)} missing", hint))
        else:
            found.append(Finding(what, "ok", ", ".join(f"{name} {_version(name)}" for name in names[:4])))
    return found


def _version(name: str) -> str:
    try:
        return version(_DISTRIBUTIONS.get(name, name.replace("_", "-")))
    except PackageNotFoundError:
        return "?"


def _config(project: Path) -> Finding:
    try:
        path = find_config(project)
    except VivaceError:
        return Finding(FILE_NAME, "warn", f"none in {project.resolve()}", "vivace init DIR --from FILE writes one.")
    try:
        load(path)
    except VivaceError as error:
        return Finding(FILE_NAME, "bad", error.message, error.hint)
    return Finding(FILE_NAME, "ok", str(path))
