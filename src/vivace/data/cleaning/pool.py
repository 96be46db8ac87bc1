"""Several processes that clean, and their results in the order of the batches."""

import queue
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, suppress
from types import TracebackType
from typing import cast

import msgspec

from vivace import errors
from vivace.data.cleaning.batch import Cleaned, Plan
from vivace.data.cleaning.frames import Failure, Opening, read_frame, write_frame
from vivace.errors import ResourceError, VivaceError

AHEAD = 3  # batches in flight for each process
_ANSWER: msgspec.msgpack.Decoder[Cleaned] = msgspec.msgpack.Decoder(Cleaned)


class Pool(AbstractContextManager["Pool"]):
    """Processes that run the steps of a plan."""

    def __init__(self, plan: Plan, workers: int) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        self._idle: queue.SimpleQueue[subprocess.Popen[bytes]] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(workers)
        opening = msgspec.msgpack.encode(Opening(plan.settings.model_dump_json().encode(), plan.steps, plan.label))
        try:
            for _ in range(workers):
                process = subprocess.Popen(
                    [sys.executable, "-m", "vivace.data.cleaning.worker"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    start_new_session=True,
                )
                self._processes.append(process)
                _ask(process, opening, first=True)
                self._idle.put(process)
        except BaseException:
            self._stop()
            raise

    def map(self, batches: Iterable[list[bytes]]) -> Iterator[Cleaned]:
        """Yield what became of each batch, in order."""
        running: deque[Future[Cleaned]] = deque()
        for batch in batches:
            running.append(self._threads.submit(self._clean, batch))
            if len(running) >= AHEAD * len(self._processes):
                yield running.popleft().result()
        while running:
            yield running.popleft().result()

    def _clean(self, batch: list[bytes]) -> Cleaned:
        process = self._idle.get()
        try:
            return _ANSWER.decode(_ask(process, msgspec.msgpack.encode(batch)))
        finally:
            self._idle.put(process)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes, at once if something went wrong."""
        self._stop()

    def _stop(self) -> None:
        for process in self._processes:
            process.kill()  # it has nothing to save
        self._threads.shutdown(wait=True, cancel_futures=True)
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with suppress(BrokenPipeError):  # what was still in the pipe has no reader any more
                    if pipe:
                        pipe.close()


def _ask(process: subprocess.Popen[bytes], body: bytes, *, first: bool = False) -> bytes:
    """Return the answer of a process; raises what went wrong there."""
    if process.stdin is None or process.stdout is None:
        raise TypeError("the process has no pipes")
    try:
        write_frame(process.stdin, body)  # type: ignore[arg-type]
        answer = read_frame(process.stdout)  # type: ignore[arg-type]
    except OSError:
        answer = None
    if answer is None:
        code = process.wait()
        raise ResourceError(
            f"A process that cleans conversations ended unexpectedly (code {code}).",
            "It may have run out of memory: try --set data.workers=1.",
        )
    if first and answer == msgspec.msgpack.encode(None):
        return answer
    try:
        failure = msgspec.msgpack.decode(answer, type=Failure)
    except msgspec.ValidationError:
        return answer
    kind = cast(type[VivaceError], getattr(errors, failure.kind, VivaceError))
    raise kind(failure.message, failure.hint)
