"""Which single weights of a matrix become zero, and what the others become: magnitude, Wanda, SparseGPT.

All take a matrix (out, in) in float32 and return another of the same size. Our own, because llm-compressor runs its own
as parts of a pipeline that reads data and walks models its way. On the same matrix its functions (0.14.0.1) and these
give the same zeros, and SparseGPT the same weights within 2e-6, for N:M patterns; without a pattern these zero exactly
the share asked for, those up to one weight more in a block or one less in a row.
"""

import re
from typing import Literal

import torch
from torch import Tensor

from vivace.errors import ConfigError, ModelError

WeightMethod = Literal["magnitude", "wanda", "sparsegpt"]
BLOCK = 128  # columns that SparseGPT settles together, as in its authors' code
DAMPING = 0.01  # of the mean of the Hessian's diagonal, as there


def parse_pattern(pattern: str) -> tuple[int, int] | None:
    """Return (kept, of) for a pattern such as 2:4, None for `unstructured`."""
    if pattern == "unstructured":
        return None
    found = re.fullmatch(r"([1-9]\d?):([1-9]\d?)", pattern)
    if found is None or int(found[1]) >= int(found[2]):
        raise ConfigError(
            f"{pattern!r} is no pattern of zeros.", "Write N:M (N of every M stay, such as 2:4) or unstructured."
        )
    return int(found[1]), int(found[2])


def sparsity_of(pattern: str, sparsity: float) -> float:
    """Return the share of zeros: the pattern's own, if it has one."""
    found = parse_pattern(pattern)
    return sparsity if found is None else 1 - found[0] / found[1]


def magnitude(weight: Tensor, sparsity: float, pattern: str) -> Tensor:
    """Zero the smallest weights, over the whole matrix or in every group of the pattern."""
    return weight.masked_fill(_lowest(weight.abs(), sparsity, pattern, by_row=False), 0.0)


def wanda(weight: Tensor, norms: Tensor, sparsity: float, pattern: str) -> Tensor:
    """Zero, in every row, the smallest |w| times the norm of what it multiplies, `norms` (in,).

    Sun et al. 2023, arXiv:2306.11695.
    """
    return weight.masked_fill(_lowest(weight.abs() * norms, sparsity, pattern, by_row=True), 0.0)


def sparsegpt(weight: Tensor, gram: Tensor, sparsity: float, pattern: str) -> Tensor:
    """Zero weights column by column and change those to the right so that the matrix writes nearly what it wrote.

    `gram` (in, in) is X^T X of what it reads. Frantar & Alistarh 2023, arXiv:2301.00774, algorithm 1 with blocks of 128
    columns whose zeros are chosen together.
    """
    kept_of = parse_pattern(pattern)
    weight, hessian = weight.clone(), gram.double().clone()
    diagonal = hessian.diagonal()
    silent = diagonal == 0
    diagonal[silent] = 1
    weight[:, silent] = 0
    diagonal += DAMPING * diagonal.mean()
    inverse = _upper_inverse(hessian).to(weight.dtype)
    quota = _Quota(weight.numel(), sparsity)
    for start in range(0, weight.shape[1], BLOCK):
        end = min(start + BLOCK, weight.shape[1])
        block, corner = weight[:, start:end].clone(), inverse[start:end, start:end]
        errors = torch.zeros_like(block)
        scale = corner.diagonal()
        gone = torch.zeros_like(block, dtype=torch.bool)
        if kept_of is None:
            scores = (block / scale).square()
            gone = _smallest(scores.flatten()[None], quota.take(block.numel())).view_as(block)
        for i in range(end - start):
            if kept_of is not None and (start + i) % kept_of[1] == 0:
                group = slice(i, min(i + kept_of[1], end - start))
                gone[:, group] = _smallest((block[:, group] / scale[group]).square(), kept_of[1] - kept_of[0])
            column = block[:, i].clone()
            left = column.masked_fill(gone[:, i], 0.0)
            errors[:, i] = (column - left) / scale[i]
            block[:, i:] -= errors[:, i : i + 1] * corner[i, i:]
            block[:, i] = left
        weight[:, start:end] = block
        weight[:, end:] -= errors @ inverse[start:end, end:]
    return weight


class _Quota:
    """Deals out zeros to the blocks so that their sum is exact."""

    def __init__(self, total: int, sparsity: float) -> None:
        self._total, self._sparsity = total, sparsity
        self._seen = self._dealt = 0

    def take(self, cells: int) -> int:
        self._seen += cells
        now = round(self._sparsity * self._seen) - self._dealt
        self._dealt += now
        return now


def _upper_inverse(hessian: Tensor) -> Tensor:
    """Return the upper Cholesky factor of the inverse of a symmetric matrix."""
    lower, failed = torch.linalg.cholesky_ex(hessian)
    upper, failed_again = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
    found: Tensor = upper
    if int(failed) or int(failed_again) or not bool(found.isfinite().all()):
        raise ModelError(
            "What a matrix reads over the sample leaves SparseGPT nothing to solve by.",
            "Raise `examples` in [compress.prune], or take wanda.",
        )
    return found


def _lowest(scores: Tensor, sparsity: float, pattern: str, *, by_row: bool) -> Tensor:
    kept_of = parse_pattern(pattern)
    if kept_of is not None:
        kept, of = kept_of
        check_pattern_fits(scores, of)
        return _smallest(scores.reshape(-1, of), of - kept).view_as(scores)
    if by_row:
        return _smallest(scores, round(sparsity * scores.shape[1]))
    return _smallest(scores.flatten()[None], round(sparsity * scores.numel())).view_as(scores)


def _smallest(scores: Tensor, count: int) -> Tensor:
    """Return which `count` of each row are the smallest; of equal ones the first."""
    order = scores.argsort(dim=-1, stable=True)[:, :count]
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, order, True)


def check_pattern_fits(weight: Tensor, of: int) -> None:
    """Raise `ConfigError` when a matrix's rows cannot be cut into whole groups, or SparseGPT's blocks cannot."""
    if weight.shape[1] % of or BLOCK % of:
        raise ConfigError(
            f"A pattern of {of} does not divide rows of {weight.shape[1]} weights in blocks of {BLOCK}.",
            "Take 2:4, 4:8 or unstructured.",
        )


def check_zeros(weight: Tensor, sparsity: float, pattern: str, name: str) -> float:
    """Return the share of zeros of a matrix; raises `ModelError` when it is not what the pattern promises."""
    zeros = weight == 0
    kept_of = parse_pattern(pattern)
    share = float(zeros.float().mean())
    if kept_of is not None:
        kept, of = kept_of
        if int(zeros.reshape(-1, of).sum(dim=1).min()) < of - kept:
            raise ModelError(f"{name} does not hold the pattern {pattern}.")
    elif share < sparsity - 1 / min(weight.shape):
        raise ModelError(f"{name} holds {share:.1%} zeros; {sparsity:.1%} were asked for.")
    return share
