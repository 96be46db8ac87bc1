"""An export's process tells of its failure in one sentence and never outlives its parent."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.compress.child import last_complaint, run_module
from vivace.errors import ModelError, ResourceError


def _module(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str) -> str:
    (folder / "work_in_a_test.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return "work_in_a_test"


def test_lines_arrive_as_they_are_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(
        tmp_path, monkeypatch, "import sys\nprint('one')\nprint('two', sys.argv[1])\nprint('x', file=sys.stderr)"
    )
    lines: list[str] = []
    run_module(module, ["more"], what="Work", on_line=lines.append)
    assert lines == ["one", "two more"]


def test_a_failure_is_its_last_line_without_the_exceptions_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = _module(tmp_path, monkeypatch, "raise NotImplementedError('The odd model is not supported.')")
    with pytest.raises(ModelError) as failure:
        run_module(module, [], what="Work", on_line=print)
    assert failure.value.message == "Work failed: The odd model is not supported."


def test_a_killed_child_is_a_lack_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(tmp_path, monkeypatch, "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(ResourceError, match="Work was ended by SIGKILL"):
        run_module(module, [], what="Work", on_line=print)


def test_nothing_dials_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os\nprint(os.environ['HF_HUB_OFFLINE'], os.environ['HF_HUB_DISABLE_TELEMETRY'])\n"
        "try:\n    import openvino_telemetry\n    print('telemetry')\nexcept ImportError:\n    print('none')"
    )
    lines: list[str] = []
    run_module(_module(tmp_path, monkeypatch, code), [], what="Work", on_line=lines.append)
    assert lines == ["1 1", "none"]


def test_an_interruption_ends_the_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(tmp_path, monkeypatch, "import os, time\nprint(os.getpid())\ntime.sleep(60)")
    children: list[int] = []

    def interrupt(line: str) -> None:
        children.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_module(module, [], what="Work", on_line=interrupt)
    assert not psutil.pid_exists(children[0])


def test_the_child_dies_with_a_killed_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = _module(tmp_path, monkeypatch, "import os, time\nprint(os.getpid())\ntime.sleep(60)")
    code = (
        "from vivace.compress.child import run_module\n"
        f"run_module({module!r}, [], what='Work', on_line=lambda line: print(line, flush=True))"
    )
    environment = {**os.environ, "PYTHONPATH": f"src{os.pathsep}{tmp_path}"}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 5
    while psutil.pid_exists(child) and psutil.Process(child).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_file_of_the_users_project_does_not_shadow_a_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("raise RuntimeError('shadowed')")
    monkeypatch.chdir(tmp_path)
    run_module("platform", [], what="Work", on_line=print)


@given(st.text())
def test_any_output_gives_one_line(text: str) -> None:
    line = last_complaint(text)
    assert line == line.strip()
    assert "\n" not in line


def test_bars_and_tracebacks_are_no_reasons() -> None:
    text = "ValueError: the reason.\n  File 'x', line 3\n 50%|##   | 1/2 [00:00<00:00, 3.1it/s]\n\n"
    assert last_complaint(text) == "the reason"
