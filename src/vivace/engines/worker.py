"""An engine's process: reads commands from stdin, generates on its main thread, writes events to stdout.

    python -m vivace.engines.worker NAME

It ends when its stdin does, so it never outlives its parent.
"""

import ctypes
import os
import signal
import sys
import threading
import time
from collections import deque
from typing import BinaryIO

from vivace.engines.backend import ENGINES, INSTALL_LOOP, Backend, Likelihoods, one_sentence
from vivace.engines.frames import (
    Add,
    Cancel,
    Command,
    Event,
    Failed,
    Load,
    Ping,
    Pong,
    Ready,
    Score,
    Scored,
    Stop,
    Tokens,
    read_command,
    to_frame,
)
from vivace.errors import ConfigError, EngineError, ModelError, ResourceError, VivaceError

SCORE_BATCH_TOKENS = 4096
_PR_SET_PDEATHSIG = 1


class Inbox:
    """The commands that came in, read by a thread of its own so that a long step does not keep them in the pipe.

    The same thread answers pings: a long step is no silence.
    """

    def __init__(self, pipe: BinaryIO, outbox: "Outbox") -> None:
        self._pipe = pipe
        self._outbox = outbox
        self._commands: deque[Command] = deque()
        self._arrived = threading.Condition()
        self._since: float | None = time.monotonic()  # when the loop last looked; None while it waits
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def take(self, *, wait: bool) -> list[Command]:
        """Return all commands that came in; with `wait`, at least one."""
        with self._arrived:
            while wait and not self._commands:
                self._since = None
                self._arrived.wait()
            commands = list(self._commands)
            self._commands.clear()
            self._since = time.monotonic()
        return commands

    def _read(self) -> None:
        try:
            while (command := read_command(self._pipe)) is not None and not isinstance(command, Stop):
                if isinstance(command, Ping):
                    since = self._since
                    self._outbox.send(Pong(0.0 if since is None else time.monotonic() - since))
                    continue
                with self._arrived:
                    self._commands.append(command)
                    self._arrived.notify()
        finally:
            # The parent is gone or wants us gone. Nothing is to be saved; the main thread may be deep in native code.
            os._exit(0)


class Outbox:
    """Writes events to the parent, from any thread."""

    def __init__(self, pipe: BinaryIO) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, event: Event) -> None:
        """Write one event at once."""
        frame = to_frame(event)
        try:
            with self._lock:
                self._pipe.write(frame)
                self._pipe.flush()
        except OSError:
            os._exit(0)  # the parent is gone

    def emit(self, request_id: int, ids: tuple[int, ...], finish: str | None = None, cached_tokens: int = 0) -> None:
        """Send new tokens of one answer."""
        self.send(Tokens(request_id, tuple(ids), finish, cached_tokens))  # type: ignore[arg-type]


class Worker:
    """Hands commands to the backend between its steps."""

    def __init__(self, backend: Backend, inbox: Inbox, outbox: Outbox) -> None:
        self._backend = backend
        self._inbox = inbox
        self._outbox = outbox
        self._scores: deque[Score] = deque()

    def run(self) -> None:
        """Work for ever."""
        while True:
            self._take(wait=not self._backend.busy and not self._scores)
            if self._scores:
                self._score(self._next_scores())
            if self._backend.busy:
                self._backend.step(self._outbox.emit, self._poll)

    def _poll(self) -> None:
        self._take(wait=False)

    def _take(self, *, wait: bool) -> None:
        commands = self._inbox.take(wait=wait)
        cancelled = {command.id for command in commands if isinstance(command, Cancel)}
        for command in commands:
            match command:
                case Add() if command.id not in cancelled:
                    self._add(command)
                case Cancel():
                    self._backend.cancel(command.id)
                    self._scores = deque(each for each in self._scores if each.id != command.id)
                case Score() if command.id not in cancelled:
                    self._scores.append(command)

    def _add(self, request: Add) -> None:
        try:
            self._backend.add(request)
        except (VivaceError, ValueError, RuntimeError) as error:
            self._outbox.send(_failure(error, request.id))

    def _next_scores(self) -> list[Score]:
        batch: list[Score] = []
        tokens = 0
        while self._scores:
            tokens += len(self._scores[0].prompt_ids) + len(self._scores[0].answer_ids)
            if batch and tokens > SCORE_BATCH_TOKENS:
                break
            batch.append(self._scores.popleft())
        return batch

    def _score(self, requests: list[Score]) -> None:
        try:
            results = self._backend.score(requests)
        except (VivaceError, ValueError, RuntimeError) as error:
            for request in requests:
                self._outbox.send(_failure(error, request.id))
            return
        for request, logprobs in zip(requests, results, strict=True):
            greedy = logprobs.greedy if isinstance(logprobs, Likelihoods) else []
            self._outbox.send(Scored(request.id, list(logprobs), greedy))


def main() -> None:
    """Open the model that the first frame names and serve it."""
    outbox = Outbox(_claim_stdout())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    signal.signal(
        signal.SIGTERM, signal.SIG_IGN
    )  # a whole group is told to end: the parent drains first, then closes us
    _die_with_parent()
    started = time.perf_counter()
    inbox = Inbox(sys.stdin.buffer, outbox)
    load = inbox.take(wait=True)[0]
    assert isinstance(load, Load)
    try:
        backend: Backend = ENGINES.load(load.engine)(load)
    except Exception as error:
        outbox.send(_failure(error, None))
        sys.exit(1)
    outbox.send(Ready(time.perf_counter() - started, load.context_length, backend.facts))
    try:
        Worker(backend, inbox, outbox).run()
    except Exception as error:
        outbox.send(_failure(error, None))
        raise


def _claim_stdout() -> BinaryIO:
    """Keep stdout for frames and point file descriptor 1 at stderr, so that what a library prints corrupts nothing."""
    frames = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return frames


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _failure(error: Exception, request_id: int | None) -> Failed:
    match error:
        case ImportError():
            name = error.name or "a library"
            return Failed(request_id, f"The engine needs {name}, which cannot be imported.", INSTALL_LOOP)
        case MemoryError():
            return Failed(request_id, "The engine ran out of memory.", kind="resource")
        case ResourceError():
            return Failed(request_id, error.message, error.hint, "resource")
        case ModelError():
            return Failed(request_id, error.message, error.hint, "model")
        case ConfigError():
            return Failed(request_id, error.message, error.hint, "config")
        case EngineError():
            return Failed(request_id, error.message, error.hint)
        case _:
            return Failed(request_id, one_sentence(error))


if __name__ == "__main__":
    main()
