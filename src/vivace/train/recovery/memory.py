"""Telling that memory ran out from other failures, and making batches smaller until they fit."""

from collections.abc import Callable, Iterator

SIGNS = ("can't allocate memory", "cannot allocate memory", "bad_alloc", "bad allocation", "not enough memory",
         "ALLOC_FAILED", "out of memory")  # fmt: skip


class OutOfMemoryError(Exception):
    """Training did not fit with this many rows at a time."""

    def __init__(self, micro_batch: int) -> None:
        super().__init__(f"{micro_batch} rows at a time do not fit")
        self.micro_batch = micro_batch


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an allocation failed, on the GPU or in the process, in this error or what caused it."""
    import torch

    for found in _chain(error):
        if isinstance(found, (torch.OutOfMemoryError, MemoryError)):
            return True
        if isinstance(found, RuntimeError) and any(sign in str(found) for sign in SIGNS):
            return True
    return False


def halved(micro_batch: int) -> int:
    """Return the next smaller number of rows at a time, at least 1."""
    return max(1, micro_batch // 2)


def fitting(micro_batch: int, need: Callable[[int], int], free: int) -> int:
    """Return the largest number of rows, halving from `micro_batch`, that needs no more than `free` bytes; else 1."""
    while micro_batch > 1 and need(micro_batch) > free:
        micro_batch = halved(micro_batch)
    return micro_batch


def about_halving(before: int, after: int, why: str) -> str:
    """Return the sentence that says so to the user."""
    return (
        f"{why} with {before:,} conversations at a time: training goes on with {after:,} at a time and adds up their "
        "gradients, so each update still learns from the same conversations."
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__
