"""What a student learns from its teacher, as one value that goes between processes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct

from vivace.train.batches.rows import Row

Key = tuple[tuple[int, ...], tuple[int, ...]]


class Divergence(Struct, frozen=True):
    """Which divergence is measured between distributions softened by `temperature`."""

    kind: Literal["forward_kl", "reverse_kl", "jsd"] = "forward_kl"
    beta: float = 0.5
    temperature: float = 1.0


class Lesson(Struct, frozen=True):
    """The teacher's folder and how much it counts (`alpha`).

    `lmbda` is the share of batches that the student answers itself, at the temperature `heat`. `baked` are rows of the
    student's, each with what the teacher reads in its place; empty where both read the same.
    """

    teacher: Path
    divergence: Divergence
    alpha: float
    lmbda: float = 0.0
    max_new_tokens: int = 64
    heat: float = 1.0
    eos_ids: tuple[int, ...] = ()
    seed: int = 0
    baked: tuple[tuple[Row, Row], ...] = ()


def key_of(ids: Sequence[int], labels: Sequence[int]) -> Key:
    """Return what tells a student's row from others."""
    return tuple(ids), tuple(labels)
