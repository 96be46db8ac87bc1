"""The mean of the weights of the best checkpoints, where it is better than the best of them."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from msgspec import Struct
from safetensors.torch import load_file
from torch import Tensor

from vivace.train import checkpoints
from vivace.train.course import Validated

if TYPE_CHECKING:
    from vivace.train.trainer import ChatTrainer


class Averaged(Struct, frozen=True):
    """What averaging came to; `steps` are the checkpoints that the model is the mean of, one where none was better."""

    steps: tuple[int, ...]
    loss: float
    token_accuracy: float


def average_best(trainer: "ChatTrainer", count: int) -> Averaged | None:
    """Leave in the trainer's model the mean of its `count` best checkpoints, or the best one where the mean is worse.

    Both are compared on the validation rows. Returns None without validations. Izmailov et al. 2018,
    https://arxiv.org/abs/1803.05407; Wortsman et al. 2022, https://arxiv.org/abs/2203.05482.
    """
    course = trainer.course
    best = course.best(count)
    if not best:
        return None
    if len(best) > 1:
        folders = [folder_of(trainer.scratch, found.step) for found in best]
        put_weights(trainer.network, mean_weights(folders))
        mean = Validated(best[0].step, *trainer.validation_figures())
        if math.isfinite(mean.loss) and not course.is_better(best[0], mean):
            return Averaged(tuple(sorted(found.step for found in best)), mean.loss, mean.token_accuracy)
    checkpoints.load_weights(trainer.network, folder_of(trainer.scratch, best[0].step))
    return Averaged((best[0].step,), best[0].loss, best[0].token_accuracy)


def mean_weights(folders: Sequence[Path]) -> dict[str, Tensor]:
    """Return the mean of the checkpoints' weights by name, summed in float64."""
    total: dict[str, Tensor] = {}
    kinds: dict[str, torch.dtype] = {}
    for folder in sorted(folders):  # the order decides the last bit
        for name, tensor in load_file(str(folder / "weights.safetensors")).items():
            kinds[name] = tensor.dtype
            total[name] = total[name] + tensor.double() if name in total else tensor.double()
    return {name: (tensor / len(folders)).to(kinds[name]) for name, tensor in total.items()}


def put_weights(model: torch.nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy weights into the parameters of the same names that are trained."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.copy_(weights[name])


def folder_of(scratch: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies."""
    return scratch / f"{checkpoints.PREFIX}{step}"
