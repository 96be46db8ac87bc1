"""Four-bit rounding as onnxruntime's builder does it, and weights that survive it with the least damage."""

import torch
from torch import Tensor

BLOCK = 32
_LOWEST, _HIGHEST = -8, 7
_DAMPING = 0.01  # of the mean of the diagonal, as in Frantar et al. 2022


def rounded(weight: Tensor, block: int = BLOCK) -> Tensor:
    """Return [out, in] rounded to 16 levels in blocks of `block`, so that each block's largest number is the lowest.

    The scale has the sign that makes it so (MLAS, symmetric). A last block that is not full is filled with zeros.
    """
    rows, columns = weight.shape
    parts = torch.nn.functional.pad(weight, (0, -columns % block)).reshape(rows, -1, block)
    scale = _scales(parts)
    made = _levels(parts, scale) * scale
    return made.reshape(rows, -1)[:, :columns]


def fitted(weight: Tensor, gram: Tensor, block: int = BLOCK) -> Tensor:
    """Return [out, in] on the grid of `rounded`, which leaves it as it is, chosen by what it multiplies.

    `gram` is X^T X of the inputs. One column after the other is rounded, and the next ones make up for what it lost
    (GPTQ, Frantar et al. 2022, https://arxiv.org/abs/2210.17323). The number that a block's scale is taken from stays
    on the lowest level, so that whoever rounds the result finds the same scale again.
    """
    left = weight.clone()
    made = torch.empty_like(left)
    factor = _factor(gram)
    columns = left.shape[1]
    for start in range(0, columns, block):
        end = min(start + block, columns)
        part = left[:, start:end].clone()
        largest = part.abs().argmax(dim=1)
        scale = _scales(part)
        errors = torch.empty_like(part)
        for column in range(end - start):
            level = _levels(part[:, column : column + 1], scale)
            level[largest == column] = _LOWEST
            value = (level * scale)[:, 0]
            error = (part[:, column] - value) / factor[start + column, start + column]
            part[:, column:] -= error[:, None] * factor[start + column, start + column : end]
            made[:, start + column], errors[:, column] = value, error
        left[:, end:] -= errors @ factor[start:end, end:]
    return made


def _scales(parts: Tensor) -> Tensor:
    """Return the scale of each block along the last axis, with its sign."""
    largest = parts.abs().argmax(dim=-1, keepdim=True)
    return parts.gather(-1, largest) / _LOWEST


def _levels(parts: Tensor, scale: Tensor) -> Tensor:
    safe = torch.where(scale == 0, torch.ones_like(scale), scale)
    return (parts / safe).round().clamp(_LOWEST, _HIGHEST)


def _factor(gram: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the damped inverse of `gram`."""
    diagonal = gram.diagonal()
    mean = float(diagonal.mean()) or 1.0
    damped = gram.double() + torch.eye(len(gram), dtype=torch.float64) * (_DAMPING * mean)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(damped))
    factor: Tensor = torch.linalg.cholesky(inverse, upper=True)
    return factor.to(gram.dtype)
