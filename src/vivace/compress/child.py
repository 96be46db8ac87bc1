"""Run an export in a process of its own: its memory goes back when it ends, and its crash is one sentence here."""

import ctypes
import os
import re
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import vivace
from vivace.errors import ModelError, ResourceError

_PR_SET_PDEATHSIG = 1
_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt)\w*: ")


def run_module(
    module: str,
    arguments: Sequence[str],
    *,
    what: str,
    on_line: Callable[[str], None],
    environment: Mapping[str, str] | None = None,
) -> None:
    """Run `python -m module`, hand each line it prints to `on_line`, and return when it has ended well.

    Raises `ModelError` with the last thing it complained of, `ResourceError` when it was killed from outside.
    The child ends with this process, however this process ends.
    """
    command = [sys.executable, "-P", "-m", "vivace.compress.child", str(os.getpid()), module, *arguments]
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            env=_environment(environment or {}),
            encoding="utf-8",
            errors="replace",
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                on_line(line.rstrip("\n"))
            code = process.wait()
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
        complaints.seek(0)
        if code:
            raise _failure(what, code, complaints.read())


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "PYTHONUNBUFFERED": "1",
    }
    # The child finds this very package, also when it runs from a source tree or an application's own path.
    here = str(Path(vivace.__file__).parents[1])
    path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
    return {**os.environ, **offline, **extra, "PYTHONPATH": path}


def _failure(what: str, code: int, complaints: str) -> ModelError | ResourceError:
    if code < 0:
        hint = "This is most often a lack of memory: close other programs."
        return ResourceError(f"{what} was ended by {signal.Signals(-code).name}.", hint)
    return ModelError(f"{what} failed: {last_complaint(complaints)}.")


def last_complaint(text: str) -> str:
    """Return the last line of a program's error output that says something, without the exception's name."""
    for line in reversed(text.replace("\r", "\n").splitlines()):
        if line.strip() and not line.startswith((" ", "\t")) and not line.rstrip().endswith("it/s]"):
            return _EXCEPTION.sub("", line.strip()).rstrip(".")
    return "it gave no reason"


def main(parent: int, module: str, arguments: list[str]) -> None:
    """Become `python -m module arguments`, bound to the life of `parent`."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        raise SystemExit(1)
    # openvino and nncf would report their use to a server; without this package they do not.
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3:])
