"""Which machine this is, so that what was measured on it is not believed on another."""

import hashlib
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import psutil
from msgspec import Struct

from vivace.engines import engine_threads

LIBRARIES = ("openvino", "openvino-genai", "onnxruntime-genai", "xllamacpp", "torch", "transformers")


class Machine(Struct, frozen=True):
    """What decides how fast an engine is here; `cores` are those this process may use."""

    processor: str
    cores: int
    memory_gb: int
    libraries: dict[str, str]

    @property
    def fingerprint(self) -> str:
        """A short hash: another processor, core count, memory or library version is another machine."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()[:16]


def this_machine() -> Machine:
    """Look at the machine."""
    memory_gb = round(psutil.virtual_memory().total / 1e9)
    return Machine(_processor(), engine_threads(), memory_gb, {name: _version(name) for name in LIBRARIES})


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""
