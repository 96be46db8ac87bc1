"""An engine's process as its parent sees it: start, talk, notice its end, end it."""

import asyncio
import os
import re
import signal
import sys
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from vivace.engines.frames import (
    LENGTH_BYTES,
    Command,
    Event,
    Failed,
    Load,
    Ping,
    Pong,
    Ready,
    Stop,
    body_size,
    to_event,
    to_frame,
)
from vivace.engines.limits import child_environment, peak_memory_bytes
from vivace.engines.pulse import Pulse
from vivace.errors import ConfigError, EngineDied, EngineError, ModelError, ResourceError, VivaceError

LOAD_TIMEOUT_S = 900.0
STOP_TIMEOUT_S = 5.0
STDERR_TAIL_LINES = 60
_EXCEPTION = re.compile(r"^[\w.]*(?:Error|Exception|Interrupt|Exit)\b.*")
_KINDS: dict[str, type[VivaceError]] = {
    "engine": EngineError,
    "model": ModelError,
    "resource": ResourceError,
    "config": ConfigError,
}


class Child:
    """One running process; `on_event` gets what it says about requests, `on_end` the reason when it is no more."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        engine: str,
        on_event: Callable[[Event], None],
        on_end: Callable[[EngineDied], None],
        hang_timeout_s: float,
    ) -> None:
        self._process = process
        self._engine = engine
        self._on_event = on_event
        self._on_end = on_end
        self._stderr: deque[str] = deque(maxlen=STDERR_TAIL_LINES)
        self._reason: EngineDied | None = None
        self._peak_bytes = 0
        self._ready: asyncio.Future[Ready] = asyncio.get_running_loop().create_future()
        self._hang_timeout_s = hang_timeout_s
        self._pulse = Pulse(process.pid, LOAD_TIMEOUT_S)  # until the model is open
        self._tasks = [asyncio.create_task(work()) for work in (self._listen, self._keep_stderr, self._watch)]
        self.alive = True

    @classmethod
    async def start(
        cls,
        load: Load,
        on_event: Callable[[Event], None],
        on_end: Callable[[EngineDied], None],
        hang_timeout_s: float,
    ) -> tuple["Child", Ready]:
        """Start a process and wait until its model is open; raises what kept it from opening."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "vivace.engines.worker", load.engine,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=child_environment(load.threads, os.environ),
            start_new_session=True,  # a Ctrl-C in the terminal is the parent's to handle
        )  # fmt: skip
        child = cls(process, load.engine, on_event, on_end, hang_timeout_s)
        try:
            child.send(load)
            async with asyncio.timeout(LOAD_TIMEOUT_S):
                ready = await child._ready
        except TimeoutError as error:
            await child.close()
            said = f"The {load.engine} engine did not open {load.folder} in {LOAD_TIMEOUT_S:.0f} s."
            raise EngineError(said) from error
        except BaseException:
            await child.close()
            raise
        return child, ready

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def send(self, command: Command) -> None:
        """Send a command; to a process that is gone, nothing."""
        assert self._process.stdin is not None
        if self.alive and not self._process.stdin.is_closing():
            self._process.stdin.write(to_frame(command))

    def kill(self, reason: str) -> None:
        """End the process at once, for a reason to tell to those who wait for it."""
        self._reason = EngineDied(reason)
        self.peak_memory_bytes()
        with suppress(ProcessLookupError):
            self._process.kill()

    def peak_memory_bytes(self) -> int:
        """Return the most memory the process ever held."""
        if self._process.returncode is None:
            self._peak_bytes = max(self._peak_bytes, peak_memory_bytes(self._process.pid))
        return self._peak_bytes

    async def close(self) -> None:
        """End the process: ask, then kill."""
        self.peak_memory_bytes()
        self.send(Stop())
        self.alive = False
        if self._process.stdin is not None:
            self._process.stdin.close()
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await self._process.wait()
        except TimeoutError:
            with suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            if self._ready.done() and not self._ready.cancelled():
                self._ready.exception()  # told already

    async def _listen(self) -> None:
        assert self._process.stdout is not None
        try:
            while True:
                prefix = await self._process.stdout.readexactly(LENGTH_BYTES)
                body = await self._process.stdout.readexactly(body_size(prefix))
                self._take(to_event(body))
        except asyncio.IncompleteReadError:
            pass  # its end of the pipe is closed: it has ended, or is about to
        except ValueError as error:
            self.kill(f"The {self._engine} engine wrote what is no frame: {error}.")
        self.alive = False
        await self._process.wait()
        await asyncio.wait([self._tasks[1]], timeout=1.0)  # let the last words on stderr come in
        reason = self._reason or EngineDied(f"The {self._engine} engine ended: {self._last_words()}")
        if self._ready.done():
            self._on_end(reason)
        else:
            self._ready.set_exception(EngineError(reason.message, reason.hint))

    async def _watch(self) -> None:
        """Kill the process when it shows no sign of life, or none of getting anywhere."""
        while self.alive:
            self.send(Ping())
            await asyncio.sleep(self._pulse.tick_s)
            if self.alive and (found := self._pulse.tick()):
                self.kill(f"The {self._engine} engine {found} and was ended.")
                return

    def _take(self, event: Event) -> None:
        self._pulse.heard(event.step_s if isinstance(event, Pong) and self._ready.done() else 0.0)
        match event:
            case Ready():
                self._pulse = Pulse(self._process.pid, self._hang_timeout_s)
                if not self._ready.done():
                    self._ready.set_result(event)
            case Pong():
                pass
            case Failed(id=None):
                if self._ready.done():
                    self._reason = EngineDied(f"The {self._engine} engine failed: {event.message}", event.hint)
                else:
                    self._ready.set_exception(_KINDS[event.kind](event.message, event.hint))
            case _:
                self._on_event(event)

    async def _keep_stderr(self) -> None:
        assert self._process.stderr is not None
        while True:
            try:
                line = await self._process.stderr.readline()
            except ValueError:
                continue  # a line longer than the stream's limit; its rest comes as the next one
            if not line:
                return
            self._stderr.append(line.decode("utf-8", errors="replace").strip()[:500])

    def _last_words(self) -> str:
        lines = [line for line in self._stderr if line]
        said = next((line for line in reversed(lines) if _EXCEPTION.match(line)), lines[-1] if lines else "")
        code = self._process.returncode or 0
        if code < 0:
            name = signal.Signals(-code).name
            often = " (often: no memory left)" if name == "SIGKILL" else ""
            return f"killed by {name}{often}{f', last words: {said}' if said else '.'}"
        return said or f"exit status {code}."


def failure(event: Failed) -> VivaceError:
    """Return the error that one request's failure is to its caller."""
    return _KINDS[event.kind](event.message, event.hint)
