"""Python graders: each in a process of its own that can do nothing but compute, and is ended when it takes long."""

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import Any

from msgspec import Struct

from vivace.config.grader import PythonGrader
from vivace.errors import ConfigError
from vivace.evaluate.graders.case import Case, Grade

PROGRAM = Path(__file__).with_name("confine.py")
_LONGEST_LINE = 1 << 16
_LOOK_S = 0.2
_ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


class Limits(Struct, frozen=True):
    """What a grader may take."""

    start_s: float = 20.0
    case_s: float = 10.0
    memory_bytes: int = 1 << 30
    file_bytes: int = 16 << 20
    scratch_bytes: int = 64 << 20
    open_files: int = 64

    def of_process(self, cases: int) -> dict[str, int]:
        """Return the limits that the system keeps."""
        return {
            "CPU": math.ceil(self.start_s + self.case_s * cases),
            "AS": self.memory_bytes,
            "FSIZE": self.file_bytes,
            "NOFILE": self.open_files,
            "NPROC": 0,
            "CORE": 0,
        }


class Stopped(Exception):
    """The process gives no more grades; says why."""


def check_source(grader: PythonGrader) -> None:
    """Raise `ConfigError` for a source that is not Python; it is not run for that."""
    try:
        compile(grader.source, "source", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        line = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else error
        raise ConfigError(f"The source of grader {grader.name!r}{line} is not Python: {said}.") from None


async def python_grades(grader: PythonGrader, cases: Sequence[Case], limits: Limits | None = None) -> list[Grade]:
    """Return what the source's `grade` gives each case; after it was ended, the sentence that says why."""
    chosen = limits or Limits()
    asked = [case for case in cases if not case.failed]
    found: list[Grade] = []
    with tempfile.TemporaryDirectory(prefix="grader.", ignore_cleanup_errors=True) as scratch:
        work = {
            "source": grader.source,
            "scratch": scratch,
            "limits": chosen.of_process(len(asked)),
            "cases": [{"sample": case.sample, "item": case.item} for case in asked],
        }
        run = _Run(grader.name, Path(scratch), chosen)
        try:
            await run.start(json.dumps(work).encode())
            for case in asked:
                found.append(await run.grade(case.id))
        except Stopped as reason:
            found += [str(reason)] * (len(asked) - len(found))
        finally:
            await run.end()
    graded = iter(found)
    return [0.0 if case.failed else next(graded) for case in cases]


class _Run:
    """One process of one grader."""

    def __init__(self, name: str, scratch: Path, limits: Limits) -> None:
        self._name, self._scratch, self._limits = name, scratch, limits
        self._process: asyncio.subprocess.Process | None = None
        self._feeding: asyncio.Task[None] | None = None

    async def start(self, work: bytes) -> None:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-X", "utf8", str(PROGRAM),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            env=_ONE_THREAD,
            cwd=self._scratch,
            start_new_session=True,
            limit=_LONGEST_LINE,
        )  # fmt: skip
        self._feeding = asyncio.create_task(self._feed(work))
        await self._line(self._limits.start_s, "while it started")
        line = await self._line(self._limits.start_s, "while its source was run")
        if "loaded" not in line:
            said = _short(line.get("broken"))
            if said.startswith("MemoryError"):
                raise Stopped(f"The grader {self._name!r} wanted more than {self._limits.memory_bytes >> 20:,} MB.")
            raise Stopped(f"The source of grader {self._name!r} cannot be run: {said}.")

    async def grade(self, example_id: str) -> Grade:
        when = f"on example {example_id!r}"
        line = await self._line(self._limits.case_s, when)
        if "error" in line:
            said = _short(line["error"])
            if said.startswith("MemoryError"):
                return f"The grader {self._name!r} wanted more than {self._limits.memory_bytes >> 20:,} MB {when}."
            return f"The grader {self._name!r} failed {when}: {said}."
        value = line.get("grade")
        if not isinstance(value, float):
            return f"The grader {self._name!r} gave {_short(value)} {when}; wanted is a number."
        return value if math.isfinite(value) else f"The grader {self._name!r} gave {value} {when}, which is not finite."

    async def end(self) -> None:
        process = self._process
        if process is None:
            return
        if self._feeding is not None:
            self._feeding.cancel()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()

    async def _feed(self, work: bytes) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            self._process.stdin.write(work)
            await self._process.stdin.drain()
            self._process.stdin.close()

    async def _line(self, seconds: float, when: str) -> dict[str, Any]:
        """Return the next line, while watching the clock and the scratch folder."""
        assert self._process is not None
        assert self._process.stdout is not None
        reading = asyncio.create_task(self._process.stdout.readline())
        ends = monotonic() + seconds
        while not reading.done():
            await asyncio.wait([reading], timeout=min(_LOOK_S, max(0.0, ends - monotonic())))
            if reading.done():
                break
            if monotonic() >= ends:
                reading.cancel()
                raise Stopped(f"The grader {self._name!r} was ended after {seconds:g} s {when}.")
            if _size(self._scratch) > self._limits.scratch_bytes:
                reading.cancel()
                most = self._limits.scratch_bytes >> 20
                raise Stopped(f"The grader {self._name!r} wrote more than {most} MB {when} and was ended.")
        try:
            line = reading.result()
        except ValueError:
            raise Stopped(f"The grader {self._name!r} wrote where its grades go {when} and was ended.") from None
        if not line:
            raise Stopped(f"The grader {self._name!r} ended its process {when}: {await self._ending()}.")
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Stopped(f"The grader {self._name!r} wrote where its grades go {when} and was ended.")
        return value

    async def _ending(self) -> str:
        assert self._process is not None
        try:
            code = await asyncio.wait_for(self._process.wait(), 1.0)
        except TimeoutError:
            return "it closed its output"
        if code < 0:
            name = signal.Signals(-code).name
            return f"{name}, its time is used up" if name == "SIGXCPU" else name
        return f"exit status {code}"


def _short(value: Any) -> str:
    return " ".join(str(value).split())[:300]


def _size(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.lstat(os.path.join(place, name)).st_size
    return total
