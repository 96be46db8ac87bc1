"""The processes that train together: sums over all of them, gradients included."""

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from vivace.errors import ConfigError

GRADIENT_BUCKET = 1 << 24
"""Gradients are summed so many numbers at a time."""


class WorkerLostError(Exception):
    """Another worker is gone, so that nothing can be shared any more."""


class Group:
    """One worker among `size`; alone, every sum is its own.

    `local_rank` counts on this machine: each machine's first worker writes what is kept there.
    """

    def __init__(self, rank: int = 0, size: int = 1, local_rank: int = 0, local_size: int = 1) -> None:
        self.rank, self.size, self.local_rank, self.local_size = rank, size, local_rank, local_size

    @property
    def leads(self) -> bool:
        """Whether this worker tells what all of them do."""
        return self.rank == 0

    @property
    def writes(self) -> bool:
        """Whether this worker writes checkpoints and the model on its machine."""
        return self.local_rank == 0

    def gather(self, values: Sequence[float]) -> list[list[float]]:
        """Return every worker's values, in the order of their ranks, the same everywhere."""
        if self.size == 1:
            return [list(values)]
        import torch
        import torch.distributed as dist

        own = torch.tensor(list(values), dtype=torch.float64, device=_device())
        found = [torch.empty_like(own) for _ in range(self.size)]
        with _together():
            dist.all_gather(found, own)
        return [one.tolist() for one in found]

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all workers, added in the order of their ranks."""
        return [sum(column) for column in zip(*self.gather(values), strict=True)]

    def barrier(self) -> None:
        """Wait until every worker is here."""
        if self.size > 1:
            self.gather([0.0])

    def sum_gradients(self, parameters: Iterable[Any]) -> None:
        """Replace every gradient by the sum over all workers; one that no worker has stays absent."""
        if self.size == 1:
            return
        import torch
        import torch.distributed as dist

        learned = [p for p in parameters if p.requires_grad]
        known = torch.tensor([p.grad is not None for p in learned], dtype=torch.float32, device=_device())
        with _together():
            dist.all_reduce(known)
        found = [p for p, count in zip(learned, known.tolist(), strict=True) if count]
        for p in found:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        for bucket in _buckets(found):
            flat = torch.cat([p.grad.reshape(-1) for p in bucket])
            with _together():
                dist.all_reduce(flat)
            start = 0
            for p in bucket:
                p.grad.copy_(flat[start : start + p.numel()].view_as(p))
                start += p.numel()


@contextmanager
def _together() -> Iterator[None]:
    """Tell a lost connection from other failures."""
    from vivace.train.recovery.memory import is_out_of_memory

    try:
        yield
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        raise WorkerLostError(str(error)) from error


def _buckets(parameters: Sequence[Any]) -> list[list[Any]]:
    """Put parameters of one type, in order, into lists of about `GRADIENT_BUCKET` numbers."""
    made: list[list[Any]] = []
    room = 0
    for p in parameters:
        if not made or room < p.numel() or made[-1][0].grad.dtype != p.grad.dtype:
            made.append([])
            room = GRADIENT_BUCKET
        made[-1].append(p)
        room -= p.numel()
    return made


def join() -> Group:
    """Join the workers that torchrun started, over NCCL where there are GPUs and gloo elsewhere.

    torchrun's own variables are taken out of the environment: the libraries train as if they were alone, and what is
    shared goes through this group. A worker sees its own GPU only.
    """
    told = {name: int(os.environ.pop(name)) for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")}
    rank, size, local = told["RANK"], told["WORLD_SIZE"], told["LOCAL_RANK"]
    import torch
    import torch.distributed as dist

    if torch.cuda.device_count():
        seen = (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(torch.cuda.device_count())))).split(
            ","
        )
        if local >= len(seen):
            raise ConfigError(
                f"workers is {told['LOCAL_WORLD_SIZE']}, but this machine has {len(seen)} GPUs.",
                "Set workers in [train] to the number of GPUs of a machine.",
            )
        os.environ["CUDA_VISIBLE_DEVICES"] = seen[local]
    dist.init_process_group(backend="nccl" if torch.cuda.is_available() else "gloo", rank=rank, world_size=size)
    return Group(rank, size, local, told["LOCAL_WORLD_SIZE"])


def _device() -> str:
    import torch.distributed as dist

    return "cuda" if dist.get_backend() == "nccl" else "cpu"
