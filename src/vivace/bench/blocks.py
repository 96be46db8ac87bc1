"""Which blocks are measured, in which order, and those that an interrupted run has measured already."""

import random
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct, field

from vivace.bench.load import Run
from vivace.config.settings import BenchSettings
from vivace.domain import Example, Request, Sampling
from vivace.errors import DataError
from vivace.store.files import append_line, read_journal

Loop = Literal["closed", "open"]
Workload = Literal["natural", "fixed"]


class Block(Struct, frozen=True):
    """One round: every candidate named answers the same requests, one candidate after the other."""

    loop: Loop
    workload: Workload
    number: int
    names: tuple[str, ...]

    @property
    def key(self) -> str:
        """Name of the block in the journal."""
        return f"{self.loop}/{self.workload}/{self.number}"


class Finished(Struct, frozen=True):
    """A measured block: per candidate its times, and what its engine and the other programs used meanwhile."""

    key: str
    runs: dict[str, Run]
    foreign: dict[str, float] = field(default_factory=dict)
    load_s: dict[str, float] = field(default_factory=dict)
    peak_memory_bytes: dict[str, int] = field(default_factory=dict)
    offered_per_s: dict[str, float] = field(default_factory=dict)


def plan(
    names: Sequence[str], baseline: str | None, settings: BenchSettings, natural: Collection[str] = ()
) -> list[Block]:
    """Return the blocks: orders alternate (A/B, B/A) so that a drift of the machine falls on everyone alike.

    The open loop comes last, as its rate is taken from the closed loop, and spares the baseline. Those in `natural`,
    who end their answers when they like, take no part where answers have a fixed length.
    """
    blocks = []
    forward = tuple(names)
    for number in range(settings.blocks):
        order = forward if number % 2 == 0 else forward[::-1]
        blocks.append(Block("closed", "natural", number, order))
        fixed = tuple(name for name in order[::-1] if name not in natural)
        if fixed:
            blocks.append(Block("closed", "fixed", number, fixed))
    others = tuple(name for name in names if name != baseline)
    if others:
        blocks.append(Block("open", "natural", 0, others))
    return blocks


def requests_of(block: Block, examples: Sequence[Example], settings: BenchSettings) -> list[Request]:
    """Return a block's requests: the same for every candidate, other prompts in each block while there are enough."""
    if not examples:
        raise DataError("There is no test example to bench with.", "Add conversations, or raise data.test_fraction.")
    shuffled = random.Random(settings.seed).sample(list(examples), len(examples))
    count = settings.open_requests if block.loop == "open" else settings.requests
    first = block.number * settings.requests
    sampling = Sampling(max_tokens=settings.max_tokens)
    if block.workload == "fixed":
        sampling = Sampling(max_tokens=settings.fixed_tokens, ignore_eos=True)
    requests = []
    for index in range(count):
        example = shuffled[(first + index) % len(shuffled)]
        requests.append(Request(f"{block.key}/{index}/{example.id}", example.prompt, sampling=sampling))
    return requests


def finished_blocks(journal: Path) -> dict[str, Finished]:
    """Return the blocks measured before an interruption."""
    records = [msgspec.json.decode(line, type=Finished) for line in read_journal(journal)]
    return {record.key: record for record in records}


def remember(journal: Path, finished: Finished) -> None:
    """Keep a measured block."""
    append_line(journal, msgspec.json.encode(finished))
