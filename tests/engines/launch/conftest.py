"""Programs on the PATH that stand in for vLLM and TGI."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vivace.engines.launch import Running, stop


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder at the front of the PATH with `vllm` and `text-generation-launcher` in it."""
    source = Path(__file__).with_name("stand_in.py").read_text()
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("vllm", "text-generation-launcher"):
        path = folder / name
        path.write_text(f"#!{sys.executable}\n{source}")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def started() -> Iterator[list[Running]]:
    """Servers that a test started: they are stopped, however it ends."""
    found: list[Running] = []
    yield found
    for running in found:
        stop(running)
