"""Which rows of a step a worker takes, and how many of them at a time."""

from collections.abc import Sequence

from vivace.train.batches.plan import Plan


def step_rows(plan: Plan, step: int) -> tuple[tuple[int, ...], ...]:
    """Return the batches of the step with this number, counted from 0."""
    return plan.batches[step * plan.accumulation : (step + 1) * plan.accumulation]


def micro_batches(
    batches: Sequence[Sequence[int]], lengths: Sequence[int], size: int, rank: int = 0, workers: int = 1
) -> list[tuple[int, ...]]:
    """Return what the worker `rank` computes of a step, at most `size` rows at a time; each row has one taker.

    Alone, a worker keeps the plan's batches, cut where they are larger than `size`. Several share a step's rows so that
    each gets about the same number of tokens: the longest row first, to whoever has least (Graham 1969,
    https://doi.org/10.1137/0117039).
    """
    if workers > 1:
        batches = [_dealt([row for batch in batches for row in batch], lengths, workers)[rank]]
    return [tuple(batch[start : start + size]) for batch in batches for start in range(0, len(batch), size)]


def longest_micro_batch(plan: Plan, lengths: Sequence[int], size: int, workers: int = 1) -> tuple[int, int]:
    """Return rows and tokens a row, padding included, of the largest batch that any worker computes at a time."""
    shapes = [
        (len(batch), max(lengths[i] for i in batch))
        for step in range(plan.steps)
        for rank in range(workers)
        for batch in micro_batches(step_rows(plan, step), lengths, size, rank, workers)
    ]
    return max(shapes, key=lambda shape: shape[0] * shape[1])


def _dealt(rows: Sequence[int], lengths: Sequence[int], workers: int) -> list[list[int]]:
    shares: list[list[int]] = [[] for _ in range(workers)]
    load = [0] * workers
    for row in sorted(rows, key=lambda i: (-lengths[i], i)):
        least = load.index(min(load))
        shares[least].append(row)
        load[least] += lengths[row]
    return shares
