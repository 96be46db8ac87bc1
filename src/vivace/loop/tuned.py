"""How engines were found to be set best, remembered for the machine that it was measured on."""

from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from vivace.domain import Interval
from vivace.loop.machine import Machine, this_machine

Aim = Literal["latency", "throughput", "goodput"]


class Tuned(Struct, frozen=True):
    """How one candidate is best set here; `ratio` is how many times better than the default, with its interval.

    `changed` says whether the advantage is beyond chance; else this is the default. No ratio: nothing was in time.
    """

    candidate: str
    engine: str
    artifact_id: str
    aim: Aim
    threads: int
    max_batch: int
    options: dict[str, Any]
    value: float
    interval: Interval
    unit: str
    ratio: float | None
    ratio_interval: Interval | None
    changed: bool
    tried: int
    default_value: float
    error: str = ""

    @property
    def opening(self) -> dict[str, Any]:
        """What `open_engine` is told."""
        return {"threads": self.threads, "max_batch": self.max_batch, "options": self.options}


class Tuning(Struct, frozen=True):
    """What `vivace engines tune` found on this machine; `note` says what spoils the figures."""

    machine: Machine
    aim: Aim
    concurrency: int
    tuned: tuple[Tuned, ...]
    note: str = ""
    reused: bool = False


def tuned_for(store_root: Path, artifact_id: str, aim: Aim | None = None) -> Tuned | None:
    """Return how an export was found to be set best on this machine, the newest finding first; None if it never was.

    `store_root` is the project's `.vivace` folder. A default that nothing beat is None, too.
    """
    paths = sorted((store_root / "tuning").glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    machine = this_machine() if paths else None
    for path in paths:
        try:
            found = msgspec.json.decode(path.read_bytes(), type=Tuning)
        except (OSError, msgspec.MsgspecError):
            continue
        if found.machine != machine or (aim is not None and found.aim != aim):
            continue
        for each in found.tuned:
            if each.artifact_id == artifact_id:
                return each if each.changed else None
    return None
