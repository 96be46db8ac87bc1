"""What a run is to do, as one value that goes between processes without pickle."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.config.train import TrainSettings
from vivace.domain import Model
from vivace.store.files import write_atomic
from vivace.train.batches.plan import Plan
from vivace.train.batches.rows import Row
from vivace.train.distillation.lesson import Lesson
from vivace.train.estimates.estimate import Estimate


class Job(Struct, frozen=True):
    """Rows, plan and settings of one run; `micro_batch` is how many conversations are computed at a time.

    `rolled_back` tells how often the numbers of this run broke so far: each time the learning rate is halved. `start`
    is the folder of a model tuned before, whose weights training goes on from. `lesson` is what a teacher adds to the
    loss.
    """

    rows: tuple[Row, ...]
    validation: tuple[Row, ...]
    plan: Plan
    base: Model
    settings: TrainSettings
    dtype: str
    device: str
    key: str
    micro_batch: int
    rolled_back: int = 0
    start: Path | None = None
    lesson: Lesson | None = None
    estimate: Estimate | None = None

    @property
    def lengths(self) -> list[int]:
        """Tokens of each row."""
        return [len(row.ids) for row in self.rows]


def write_job(job: Job, path: Path) -> None:
    """Write a job as MessagePack."""
    write_atomic(path, msgspec.msgpack.encode(job, enc_hook=_plain))


def read_job(path: Path) -> Job:
    """Read a job that `write_job` wrote."""
    return msgspec.msgpack.decode(path.read_bytes(), type=Job, dec_hook=_made)


def _plain(value: Any) -> Any:
    if isinstance(value, TrainSettings):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise NotImplementedError(type(value))


def _made(kind: type, value: Any) -> Any:
    return TrainSettings.model_validate(value) if kind is TrainSettings else kind(value)
