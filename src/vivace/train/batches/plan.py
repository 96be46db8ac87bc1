"""Which rows go into which batch, decided before the first step."""

import random
from collections.abc import Iterable, Sequence

from msgspec import Struct

from vivace.train.batches.curriculum import in_stages

POOL_BATCHES = 16


class Plan(Struct, frozen=True):
    """Every batch of the run as row numbers, in order; `accumulation` of them make one step."""

    batches: tuple[tuple[int, ...], ...]
    batch_tokens: tuple[int, ...]
    accumulation: int
    longest_batch: tuple[int, int]

    @property
    def steps(self) -> int:
        """How often the weights change."""
        return -(-len(self.batches) // self.accumulation)

    @property
    def tokens(self) -> int:
        """Tokens of all steps, padding not counted."""
        return sum(self.batch_tokens)

    def tokens_until(self, step: int) -> int:
        """Return the tokens of the first `step` steps."""
        return sum(self.batch_tokens[: step * self.accumulation])

    def milestones(self, fraction: float) -> tuple[int, ...]:
        """Return the steps after which each further `fraction` of the steps is done, the last one included."""
        marks = {self.steps}
        share = fraction
        while share < 1 - 1e-9:
            marks.add(max(1, round(share * self.steps)))
            share += fraction
        return tuple(sorted(marks))


def make_plan(
    lengths: Sequence[int], *, batch_size: int, accumulation: int, epochs: float, max_tokens: int | None, seed: int
) -> Plan:
    """Fill batches with rows of like length until the tokens or the epochs are used up.

    Each epoch is a new shuffle; rows are sorted by length within pools of 16 batches, so that little is padded, and
    the batches are shuffled again. The plan follows from its arguments alone.
    """
    return _plan(_shuffled(lengths, batch_size, epochs, max_tokens, seed), lengths, accumulation)


def make_curriculum(
    lengths: Sequence[int],
    difficulty: Sequence[float],
    stages: int,
    *,
    batch_size: int,
    accumulation: int,
    epochs: float,
    max_tokens: int | None,
    seed: int,
) -> Plan:
    """Show each row as often as `make_plan` does, in stages from easy to hard; within a stage rows are shuffled."""
    views = [i for batch in _shuffled(lengths, batch_size, epochs, max_tokens, seed) for i in batch]
    source = random.Random(f"vivace-train-curriculum-{seed}")
    batches: list[tuple[int, ...]] = []
    for stage in in_stages(views, difficulty, stages):
        batches += _batches(stage, lengths, batch_size, source)
    return _plan(batches, lengths, accumulation)


def _shuffled(
    lengths: Sequence[int], batch_size: int, epochs: float, max_tokens: int | None, seed: int
) -> list[tuple[int, ...]]:
    source = random.Random(f"vivace-train-plan-{seed}")
    whole, part = int(epochs), epochs - int(epochs)
    batches: list[tuple[int, ...]] = []
    total = 0
    for epoch in range(whole + (part > 0)):
        made = _batches(range(len(lengths)), lengths, batch_size, source)
        if epoch == whole:
            made = made[: max(1, round(part * len(made)))]
        for batch in made:
            tokens = sum(lengths[i] for i in batch)
            if max_tokens is not None and batches and total + tokens > max_tokens:
                return batches
            batches.append(batch)
            total += tokens
    return batches


def _batches(
    rows: Iterable[int], lengths: Sequence[int], batch_size: int, source: random.Random
) -> list[tuple[int, ...]]:
    order = list(rows)
    source.shuffle(order)
    pool = batch_size * POOL_BATCHES
    batches: list[tuple[int, ...]] = []
    for start in range(0, len(order), pool):
        alike = sorted(order[start : start + pool], key=lambda i: lengths[i], reverse=True)
        batches += [tuple(alike[i : i + batch_size]) for i in range(0, len(alike), batch_size)]
    source.shuffle(batches)
    return batches


def _plan(batches: list[tuple[int, ...]], lengths: Sequence[int], accumulation: int) -> Plan:
    tokens = tuple(sum(lengths[i] for i in batch) for batch in batches)
    shapes = [(len(batch), max(lengths[i] for i in batch)) for batch in batches]
    return Plan(tuple(batches), tokens, accumulation, max(shapes, key=lambda shape: shape[0] * shape[1]))
