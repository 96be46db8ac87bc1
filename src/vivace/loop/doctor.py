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
VECTOR_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimd", "sve")


class Finding(Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    state: Literal["ok", "warn", "bad"]
    detail: str
    hint: str = ""


def examine(project: Path) -> list[Finding]:
    """Return what was found, in the order a person would ask."""
    return [_python(), _cores(), _memory(), _disk(project), _accelerator(), *_packages(), _config(project)]


def _python() -> Finding:
    state: Literal["ok", "bad"] = "ok" if sys.version_info >= (3, 11) else "bad"
    return Finding("Python", state, platform.python_version(), "" if state == "ok" else "Install Python 3.11 or newer.")


def _cores() -> Finding:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    flags = [flag for flag in VECTOR_FLAGS if flag in _cpu_flags()]
    busy = psutil.cpu_percent(interval=0.3)
    hint = "Other programs use the processor now: benchmarks would be noisy." if busy > 25 else ""
    told = f"{usable} cores, {' '.join(flags) or 'no vector units known'}, {busy:.0f} % busy"
    return Finding("Processor", "warn" if hint else "ok", told, hint)


def _cpu_flags() -> set[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return set()
    lines = [line for line in text.splitlines() if line.startswith(("flags", "Features"))]
    return set(lines[0].split()) if lines else set()


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
    if shutil.which("nvidia-smi"):
        return Finding("Accelerator", "ok", "an NVIDIA driver is installed; training uses it when torch can")
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return Finding("Accelerator", "ok", "Apple silicon; training can use it through torch")
    return Finding("Accelerator", "ok", "none found; everything runs on the processor")


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
