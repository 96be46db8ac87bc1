"""Zero single weights of a whole decoder, layer by layer, each judged by what it reads after the layers before it."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vivace.compress.prune import masks
from vivace.compress.prune.decoder import Decoder
from vivace.compress.prune.sample import Batch
from vivace.compress.prune.walk import Walk, inputs_of
from vivace.domain import Task

ENGINES = {
    "openvino": "none: CPU_SPARSE_WEIGHTS_DECOMPRESSION_RATE needs AMX and int8 activations as well as weights",
    "onnxruntime": "none: its model builder knows no sparse weights",
    "transformers": "none: zeros are multiplied as any number",
}
"""What zeros bring in each engine. What OpenVINO asks is in its CPU plugin's source (fully_connected.cpp)."""


def sparsify(
    decoder: Decoder,
    batches: Sequence[Batch],
    *,
    method: masks.WeightMethod = "sparsegpt",
    sparsity: float = 0.5,
    pattern: str = "unstructured",
    task: Task | None = None,
) -> dict[str, Any]:
    """Zero weights of every matrix inside the layers (embeddings and head stay) and return the shares of zeros.

    In memory are the hidden states of the sample and, one layer at a time, what its matrices read as X^T X
    (`sparsegpt`) or its diagonal (`wanda`).
    """
    share = masks.sparsity_of(pattern, sparsity)
    kept_of = masks.parse_pattern(pattern)
    walks = [Walk(decoder, batch) for batch in batches] if method != "magnitude" else []
    states = [walk.start for walk in walks]
    found, zeros, total = {}, 0.0, 0
    with torch.no_grad():
        for layer in range(len(decoder.layers)):
            linears = decoder.linears(layer)
            if kept_of is not None:
                for linear in linears.values():
                    masks.check_pattern_fits(linear.weight, kept_of[1])
            read = _read(walks, states, layer, linears, full=method == "sparsegpt")
            for name, linear in linears.items():
                weight = _zeroed(linear.weight, read.get(name), method, share, pattern)
                found[f"{layer}.{name}"] = masks.check_zeros(weight, share, pattern, f"layer {layer}, {name}")
                linear.weight = nn.Parameter(weight, requires_grad=False)
                zeros += float((weight == 0).sum())
                total += weight.numel()
            states = [walk.step(layer, hidden) for walk, hidden in zip(walks, states, strict=True)]
            if task is not None:
                task.advance()
    return {
        "method": method,
        "pattern": pattern,
        "zeros": round(zeros / total, 4),
        "zeros_of_all": round(zeros / decoder.parameters, 4),
        "lowest": round(min(found.values()), 4),
        "engines": ENGINES,
    }


def _zeroed(weight: Tensor, read: Tensor | None, method: masks.WeightMethod, share: float, pattern: str) -> Tensor:
    if method == "magnitude" or read is None:
        return masks.magnitude(weight, share, pattern)
    if method == "wanda":
        return masks.wanda(weight, read.sqrt(), share, pattern)
    return masks.sparsegpt(weight, read, share, pattern)


def _read(
    walks: Sequence[Walk], states: Sequence[Tensor], layer: int, linears: dict[str, nn.Linear], *, full: bool
) -> dict[str, Tensor]:
    """Return, by matrix, X^T X of what it reads (`full`), else its diagonal; matrices that read the same share it."""
    found: dict[str, Tensor] = {}
    for walk, hidden in zip(walks, states, strict=True):
        with inputs_of(linears, _collecting(found, walk.batch, full)):
            walk.step(layer, hidden)
    return found


def _collecting(found: dict[str, Tensor], batch: Batch, full: bool) -> Any:
    last: list[Any] = [None, ""]  # queries, keys and values read one tensor, and so do gate and up

    def see(name: str, given: Tensor) -> None:
        if given is last[0]:
            found.setdefault(name, found[last[1]])
            return
        last[:] = [given, name]
        read = given[batch.real]
        if full:
            total = found.setdefault(name, torch.zeros(read.shape[1], read.shape[1]))
            total.addmm_(read.T, read)
        else:
            found.setdefault(name, torch.zeros(read.shape[1])).add_(read.square().sum(dim=0))

    return see
