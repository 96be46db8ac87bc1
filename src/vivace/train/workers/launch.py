"""Training by several processes: started by torchrun, watched, told on the terminal as if it were one."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from typing import Any

from vivace import errors
from vivace.config.train import TrainSettings
from vivace.domain import Progress, Task, Workspace
from vivace.errors import EngineError, VivaceError
from vivace.train.course import Interruption, interruption
from vivace.train.recovery.divergence import DivergedError
from vivace.train.recovery.memory import OutOfMemoryError
from vivace.train.workers.job import Job, write_job

JOB, LOG, FACTS, STOP = "job.msgpack", "workers.log", "facts.json", "stop"
SEVERAL_MACHINES = ("PET_NNODES", "PET_RDZV_ENDPOINT")
"""torchrun's variables that say that other machines take part."""
GRACE_S = 5.0


def is_shared(settings: TrainSettings) -> bool:
    """Tell whether several processes train, on this machine or together with others."""
    return settings.workers > 1 or any(name in os.environ for name in SEVERAL_MACHINES)


def train_together(job: Job, workspace: Workspace) -> dict[str, Any]:
    """Train in `workers` processes, from the newest checkpoint if there is one, and return the facts.

    Raises what `train_once` raises in one process, and `EngineError` when a worker died: the rest is ended at once.
    """
    _check_workers(job)
    scratch = workspace.scratch
    for name in (FACTS, STOP):
        (scratch / name).unlink(missing_ok=True)
    write_job(job, scratch / JOB)
    with open(scratch / LOG, "wb") as log, interruption() as wish, _agent(job, scratch, log) as agent:
        end = _relay(agent, workspace.progress, wish, scratch)
        code = agent.wait()
    if end is None and code == 0:
        facts: dict[str, Any] = json.loads((scratch / FACTS).read_bytes())
        return facts
    raise _failure(end or {"end": "died"}, scratch / LOG)


def _check_workers(job: Job) -> None:
    rows = max(len(job.plan.batches[i]) for i in range(len(job.plan.batches))) * job.plan.accumulation
    if job.settings.workers > rows and not any(name in os.environ for name in SEVERAL_MACHINES):
        raise errors.ConfigError(
            f"workers is {job.settings.workers}, but a step has only {rows} conversations to share.",
            "Lower workers, or raise per_device_train_batch_size or gradient_accumulation_steps in [train].",
        )


@contextmanager
def _agent(job: Job, scratch: Path, log: Any) -> Iterator["subprocess.Popen[bytes]"]:
    """Start torchrun, which starts the workers, ends them all when one fails, and is ended here in any case."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(job.settings.workers)]
    command += ["--max-restarts", "0", "--monitor-interval", "0.1"]
    if not any(name in os.environ for name in SEVERAL_MACHINES):
        command += ["--standalone", "--local-addr", "127.0.0.1"]
    command += ["--module", "vivace.train.workers.worker", str(scratch / JOB)]
    agent = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        env=_environment(job),
        start_new_session=True,  # Ctrl-C is for this process, which tells the others
    )
    try:
        yield agent
    finally:
        _end(agent)


def _environment(job: Job) -> dict[str, str]:
    from vivace.train.machine import GIVEN_GPUS

    told = dict(os.environ)
    told.setdefault("OMP_NUM_THREADS", str(max(1, _cores() // job.settings.workers)))
    if not any(name in os.environ for name in SEVERAL_MACHINES) and sys.platform == "linux":
        told.setdefault("GLOO_SOCKET_IFNAME", "lo")
    if GIVEN_GPUS is None:
        told.pop("CUDA_VISIBLE_DEVICES", None)
    else:
        told["CUDA_VISIBLE_DEVICES"] = GIVEN_GPUS
    # The workers import what this process does, wherever it came from.
    told["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    return told


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _end(agent: "subprocess.Popen[bytes]") -> None:
    """Leave no process behind: workers end with this side of their standard input, the agent when told."""
    assert agent.stdin is not None
    assert agent.stdout is not None
    agent.stdin.close()
    agent.stdout.close()
    if agent.poll() is None:
        agent.terminate()
        try:
            agent.wait(GRACE_S)
        except subprocess.TimeoutExpired:
            os.killpg(agent.pid, signal.SIGKILL)
            agent.wait()


def _relay(
    agent: "subprocess.Popen[bytes]", progress: Progress, wish: Interruption, scratch: Path
) -> dict[str, Any] | None:
    """Show what the workers tell, pass on the wish to stop, and return the end that a worker came to by itself."""
    end: dict[str, Any] | None = None
    bars: dict[int, tuple[AbstractContextManager[Task], Task]] = {}
    try:
        for event in _events(agent, wish, scratch):
            if "end" in event:
                end = event if end is None or end["end"] == "died" else end
            elif "say" in event:
                progress.say(event["say"])
            elif "label" in event:
                context = progress.task(event["label"], event["total"])
                bars[event["task"]] = (context, context.__enter__())
            else:
                _show(bars, event)
    finally:
        for context, _bar in bars.values():
            context.__exit__(None, None, None)
    return end


def _show(bars: dict[int, tuple[AbstractContextManager[Task], Task]], event: Mapping[str, Any]) -> None:
    if "done" in event:
        context, _bar = bars.pop(event["task"])
        context.__exit__(None, None, None)
        return
    _context, bar = bars[event["task"]]
    if "steps" in event:
        bar.advance(event["steps"])
    else:
        bar.note(event["note"])


def _events(agent: "subprocess.Popen[bytes]", wish: Interruption, scratch: Path) -> Iterator[dict[str, Any]]:
    """Yield the workers' events until the last of them has closed its end."""
    assert agent.stdout is not None
    handle = agent.stdout.fileno()
    rest = b""
    with DefaultSelector() as selector:
        selector.register(handle, EVENT_READ)
        while True:
            if wish.asked:
                (scratch / STOP).touch()
            if not selector.select(timeout=0.2):
                continue
            read = os.read(handle, 1 << 16)
            if not read:
                return
            *lines, rest = (rest + read).split(b"\n")
            for line in lines:
                yield json.loads(line)


def _failure(end: Mapping[str, Any], log: Path) -> BaseException:
    """Return the error of the process that failed first, as if it had been raised here."""
    if end["end"] == "interrupted":
        return KeyboardInterrupt()
    if end["end"] == "memory":
        return OutOfMemoryError(end["micro_batch"])
    if end["end"] == "diverged":
        return DivergedError(end["message"], end["hint"], end["step"], end["rolled_back"])
    if end["end"] == "refused":
        kind: type[VivaceError] = getattr(errors, end["kind"], VivaceError)
        return kind(end["message"], end["hint"])
    if end["end"] == "fault":
        return RuntimeError(f"{end['message']} (in a training worker; details in {log})")
    return EngineError(
        "A training worker ended in the middle of the work, and the others were ended with it.",
        f"It may have run out of memory; {log} may tell. Run the same command again: it goes on from the newest "
        "checkpoint, with any number of workers.",
    )
