"""Several trials of a search at once, each in a process of its own; this process alone decides and remembers."""

import os
import selectors
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, cast

import msgspec

import vivace
from vivace import errors
from vivace.domain import Progress, Task
from vivace.errors import VivaceError
from vivace.train.search.study import report, tell
from vivace.train.search.trial import Common, Ended
from vivace.train.search.worker import Broken, Order, Validated

if TYPE_CHECKING:
    from optuna.trial import Trial

TRIES = 2  # a trial whose process dies so often is failed
PATIENCE_S = 5.0  # how long an interrupted process may take for the step at hand
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")
_Message = Validated | Ended | Broken


def gpus() -> list[str]:
    """Return the GPUs that workers share, as `CUDA_VISIBLE_DEVICES` names them; none on a CPU."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip()]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def worker_environments(workers: int, cores: int, devices: list[str]) -> list[dict[str, str]]:
    """Return each worker's variables: its share of the cores, and the GPUs in turn."""
    found = []
    for place in range(workers):
        wanted = os.environ.get("OMP_NUM_THREADS", "")
        threads = max(1, cores // workers)
        threads = min(threads, int(wanted)) if wanted.isdecimal() and int(wanted) else threads
        variables = dict.fromkeys(THREAD_VARIABLES, str(threads))
        if devices:
            variables["CUDA_VISIBLE_DEVICES"] = devices[place % len(devices)]
        found.append(variables)
    return found


class _Worker:
    """A process that trains, and the trial it is at."""

    def __init__(self, common: bytes, environment: dict[str, str], complaints: Path) -> None:
        here = str(Path(vivace.__file__).parents[1])
        path = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))
        self.trial: Trial | None = None
        self.complaints = complaints
        with open(complaints, "wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vivace.train.search.worker", str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                bufsize=0,  # what select says to be readable is then not in a buffer of ours
                env={**os.environ, **environment, "PYTHONPATH": path},
                start_new_session=True,  # Ctrl-C is ours to pass on
            )
        self.send(common)

    @property
    def stdout(self) -> BinaryIO:
        """Where its messages come from."""
        return cast(BinaryIO, self.process.stdout)

    def send(self, line: bytes) -> None:
        """Write a line; one that has died is noticed when it is read from."""
        with suppress(BrokenPipeError):
            cast(BinaryIO, self.process.stdin).write(line + b"\n")

    def start(self, trial: "Trial") -> None:
        """Give it a trial."""
        self.trial = trial
        self.send(msgspec.json.encode(Order(trial.number, trial.params)))

    def receive(self) -> _Message | None:
        """Return its next message, None when it has ended."""
        line = self.stdout.readline()
        return msgspec.json.decode(line, type=_Message) if line.endswith(b"\n") else None

    def close(self) -> None:
        """End it at once: all it has is in its checkpoints."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()

    def last_words(self) -> str:
        """Return how it ended, after `close`."""
        code = self.process.returncode
        if code < 0:
            name = signal.Signals(-code).name
            return f"{name}, most often for lack of memory" if name == "SIGKILL" else name
        lines = self.complaints.read_text(errors="replace").strip().splitlines()
        return lines[-1].strip().rstrip(".") if lines else f"code {code}"


class Crew:
    """The processes at work; leaving the block ends them."""

    def __init__(self, common: Common, environments: list[dict[str, str]], progress: Progress, task: Task) -> None:
        self._common, self._environments = common, environments
        self._progress, self._task = progress, task
        self._started: dict[int, float] = {}
        self._workers: dict[int, _Worker] = {}
        self._places = list(range(len(environments)))
        self._again: list[Trial] = []
        self._deaths: Counter[int] = Counter()
        self._losses: dict[int, float] = {}
        self._selector = selectors.DefaultSelector()

    def run(self, next_trial: "Callable[[Collection[int]], Trial | None]", on_end: Callable[[int], None]) -> None:
        """Run trials until `next_trial`, told the numbers at work, has no more; `on_end` is told of each that ended."""
        while True:
            for place in [place for place in self._places if not self._is_busy(place)]:
                trial = self._again.pop() if self._again else next_trial(self._at_work())
                if trial is None:
                    break
                self._start(place, trial)
            if not self._at_work():
                return
            self._show()
            for key, _events in self._selector.select():
                self._hear(int(key.data), on_end)

    def _is_busy(self, place: int) -> bool:
        return place in self._workers and self._workers[place].trial is not None

    def _at_work(self) -> list[int]:
        return [worker.trial.number for worker in self._workers.values() if worker.trial is not None]

    def _start(self, place: int, trial: "Trial") -> None:
        if place not in self._workers:
            shared = msgspec.json.encode(self._common, enc_hook=str)
            complaints = self._common.scratch / f"worker-{place}.log"
            worker = self._workers[place] = _Worker(shared, self._environments[place], complaints)
            self._selector.register(worker.stdout, selectors.EVENT_READ, place)
        self._started[trial.number] = time.monotonic()
        self._workers[place].start(trial)

    def _hear(self, place: int, on_end: Callable[[int], None]) -> None:
        worker = self._workers[place]
        trial, message = worker.trial, worker.receive()
        match message:
            case Validated() if trial is not None:
                self._losses[trial.number] = message.loss
                worker.send(msgspec.json.encode(report(trial, message.milestone, message.loss)))
            case Ended() if trial is not None:
                self._ended(place, trial, message, on_end)
            case Broken():
                kind = cast(type[VivaceError], getattr(errors, message.kind, VivaceError))
                raise kind(message.message, message.hint)
            case _:
                self._died(place, on_end)

    def _ended(self, place: int, trial: "Trial", ended: Ended, on_end: Callable[[int], None]) -> None:
        if ended.lacks_memory and len(self._places) > 1:
            self._dismiss(place)
            self._places.remove(place)
            self._again.append(trial)
            told = f"Trial {trial.number} does not fit beside the others, so there is one process less: {ended.failure}"
            self._progress.say(told)
            return
        tell(trial, ended, beside=len(self._at_work()))
        self._workers[place].trial = None
        on_end(trial.number)

    def _died(self, place: int, on_end: Callable[[int], None]) -> None:
        """Give the trial of a process that ended by itself to a new one, once: it goes on at its checkpoint."""
        beside = len(self._at_work())
        with suppress(subprocess.TimeoutExpired):
            self._workers[place].process.wait(timeout=1)  # its pipe has ended before it
        worker = self._dismiss(place)
        trial = worker.trial
        if trial is None:
            return
        self._deaths[trial.number] += 1
        told = f"The process of trial {trial.number} ended unexpectedly ({worker.last_words()})"
        if self._deaths[trial.number] < TRIES:
            self._progress.say(f"{told}. The trial goes on in a new one.")
            self._again.append(trial)
            return
        self._progress.say(f"{told}, again: the trial has failed.")
        seconds = time.monotonic() - self._started[trial.number]
        tell(trial, Ended(trial.number, "failed", None, 0, seconds, f"{told}."), beside=beside)
        on_end(trial.number)

    def _dismiss(self, place: int) -> _Worker:
        worker = self._workers.pop(place)
        self._selector.unregister(worker.stdout)
        worker.close()
        return worker

    def _show(self) -> None:
        told = []
        for number in sorted(self._at_work()):
            loss = self._losses.get(number)
            told.append(f"trial {number}" if loss is None else f"trial {number}: {loss:.3f}")
        self._task.note(", ".join(told))

    def __enter__(self) -> "Crew":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End all processes: after the step at hand when interrupted, so that it is kept, else at once."""
        try:
            if kind is KeyboardInterrupt:
                self._interrupt()
        finally:
            for worker in self._workers.values():
                worker.close()
            self._selector.close()

    def _interrupt(self) -> None:
        for worker in self._workers.values():
            if worker.trial is not None:
                worker.process.send_signal(signal.SIGINT)
        until = time.monotonic() + PATIENCE_S
        for worker in self._workers.values():
            if worker.trial is not None:
                with suppress(subprocess.TimeoutExpired):
                    worker.process.wait(timeout=max(0.0, until - time.monotonic()))
