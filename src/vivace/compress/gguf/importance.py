"""The importance matrix: how strongly each column of each matrix is fed by a set of texts."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Importance = Mapping[str, NDArray[np.float32]]


def measure_importance(model: Any, rows: Sequence[Sequence[int]], on_row: Callable[[], None]) -> Importance:
    """Return for each linear layer of the blocks, by module name, the mean square of each input [columns] over `rows`.

    It is what llama.cpp calls an importance matrix: an error in a column costs what flows through it. Embeddings and
    output layer are left out, as llama.cpp leaves them out.
    """
    import torch

    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = {}

    def watch(name: str) -> Callable[..., None]:
        def hook(_module: Any, inputs: tuple["torch.Tensor", ...]) -> None:
            flat = inputs[0].detach().reshape(-1, inputs[0].shape[-1]).double()
            total = flat.square().sum(0)
            sums[name] = sums[name] + total if name in sums else total
            counts[name] = counts.get(name, 0) + flat.shape[0]

        return hook

    hooks = [
        module.register_forward_pre_hook(watch(name))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and ".layers." in f".{name}"
    ]
    try:
        with torch.inference_mode():
            for row in rows:
                model(torch.tensor([list(row)]), use_cache=False, logits_to_keep=1)
                on_row()
    finally:
        for hook in hooks:
            hook.remove()
    return {name: (total / counts[name]).float().numpy() for name, total in sums.items()}
