"""One of several processes that train together: started by torchrun, told by its parent, `python -m … JOB`."""

import json
import os
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from vivace.domain import Progress, SilentProgress, Task, Workspace
from vivace.errors import VivaceError
from vivace.store.files import write_atomic
from vivace.train.course import Interruption
from vivace.train.quiet import quiet_libraries
from vivace.train.recovery.attempts import train_once
from vivace.train.recovery.divergence import DivergedError
from vivace.train.recovery.memory import OutOfMemoryError
from vivace.train.workers.group import WorkerLostError, join
from vivace.train.workers.job import read_job

FACTS = "facts.json"
STOP = "stop"


class Channel:
    """What a worker tells its parent: a line of JSON at a time, whole even when several write."""

    def __init__(self, handle: int) -> None:
        self.handle = handle

    def tell(self, **event: Any) -> None:
        """Write one event."""
        os.write(self.handle, json.dumps(event).encode() + b"\n")


class _Wish(Interruption):
    """The user's wish to stop, as the parent leaves it in the scratch folder; all workers learn of it in one step."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def look(self) -> bool:
        return self.path.exists()


class _Told(SilentProgress):
    """Progress that goes to the parent."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.count = 0

    def task(self, label: str, total: float | None = None) -> Any:
        self.count += 1
        return _ToldTask(self.channel, self.count, label, total)

    def say(self, text: str) -> None:
        self.channel.tell(say=text)


class _ToldTask(Task):
    def __init__(self, channel: Channel, number: int, label: str, total: float | None) -> None:
        self.channel, self.number, self.label, self.total = channel, number, label, total

    def __enter__(self) -> "_ToldTask":
        self.channel.tell(task=self.number, label=self.label, total=self.total)
        return self

    def __exit__(self, *exc: object) -> None:
        self.channel.tell(task=self.number, done=True)

    def advance(self, steps: float = 1) -> None:
        self.channel.tell(task=self.number, steps=steps)

    def note(self, text: str) -> None:
        self.channel.tell(task=self.number, note=text)


def main(path: Path) -> int:
    """Do this worker's part of the job in `path` and return the exit code."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    channel = Channel(os.dup(1))
    os.dup2(2, 1)  # what libraries print is no event
    try:
        _work(path, channel)
    except KeyboardInterrupt:
        channel.tell(end="interrupted")
    except WorkerLostError:
        traceback.print_exc()
        channel.tell(end="died")
    except OutOfMemoryError as error:
        channel.tell(end="memory", micro_batch=error.micro_batch)
    except DivergedError as error:
        told = {"step": error.step, "rolled_back": error.rolled_back}
        channel.tell(end="diverged", message=error.message, hint=error.hint, **told)
    except VivaceError as error:
        channel.tell(end="refused", kind=type(error).__name__, message=error.message, hint=error.hint)
    except Exception as error:
        traceback.print_exc()
        channel.tell(end="fault", message=f"{type(error).__name__}: {error}"[:1000])
    else:
        return 0
    # The others have come to the same end or are ended from above; nobody waits for a barrier any more.
    sys.stderr.flush()
    os._exit(1)


def _work(path: Path, channel: Channel) -> None:
    import torch

    with quiet_libraries():
        group = join()
        job = read_job(path)
        torch.set_num_threads(max(1, int(os.environ.get("OMP_NUM_THREADS", "1"))))
        progress: Progress = _Told(channel) if group.leads else SilentProgress()
        scratch = path.parent
        workspace = Workspace(scratch.parent / "out", scratch, progress)
        facts = train_once(job, workspace, group, _Wish(scratch / STOP))
        if group.writes:
            write_atomic(scratch / FACTS, json.dumps(facts))
        group.barrier()
        torch.distributed.destroy_process_group()


def _end_with_parent() -> None:
    """End at once when the process that started all of this is gone: it holds the other end of standard input."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
