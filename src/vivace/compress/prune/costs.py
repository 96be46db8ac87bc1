"""The table of what each lever of pruning costs the domain, without what measures it."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

TABLE = "sensitivity.json"


class Sensitivity(Struct, frozen=True):
    """One lever at one amount, everything else untouched.

    `amount` is the share kept (layers, heads, channels) or of zeros (weights). `saved` is the share of the model's
    parameters that go; zeros stay written out and save none. `interval` is paired, at 95 %, of `loss_change`.
    """

    lever: str
    amount: float
    detail: str
    loss: float
    loss_change: float
    interval: tuple[float, float]
    p_value: float
    parameters: int
    saved: float


def to_json(rows: Sequence[Sensitivity]) -> bytes:
    """Return the table as JSON."""
    return msgspec.json.format(msgspec.json.encode(rows), indent=1)


def read_costs(folder: Path) -> list[Sensitivity]:
    """Return the table in a folder."""
    return msgspec.json.decode((folder / TABLE).read_bytes(), type=list[Sensitivity])
