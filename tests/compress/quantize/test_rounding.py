"""Four-bit rounding is onnxruntime's, and fitted weights survive it."""

import numpy as np
import pytest
import torch
from onnxruntime.capi._pybind_state import quantize_matmul_4bits
from torch import Tensor

from vivace.compress.quantize.rounding import BLOCK, fitted, rounded


def _by_onnxruntime(weight: Tensor) -> Tensor:
    """Quantize [out, in] with onnxruntime's own function and multiply out again."""
    rows, columns = weight.shape
    blocks = -(-columns // BLOCK)
    packed = np.zeros((rows, blocks, BLOCK // 2), np.uint8)
    scales, zeros = np.zeros(rows * blocks, np.float32), np.zeros(rows * -(-blocks // 2), np.uint8)
    quantize_matmul_4bits(packed, weight.T.contiguous().numpy(), scales, zeros, BLOCK, rows, columns, True)
    levels = np.stack([packed & 15, packed >> 4], axis=-1).reshape(rows, blocks, BLOCK).astype(np.float32) - 8
    return torch.from_numpy((levels * scales.reshape(rows, blocks, 1)).reshape(rows, -1)[:, :columns])


def _inputs(columns: int, rows: int = 400) -> Tensor:
    """Inputs whose channels depend on each other, some being larger than others."""
    generator = torch.Generator().manual_seed(3)
    mix = torch.randn(columns // 2, columns, generator=generator)
    spread = torch.exp(torch.randn(columns, generator=generator))
    return torch.randn(rows, columns // 2, generator=generator) @ mix * spread


def _weight(rows: int, columns: int) -> Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(rows))


@pytest.mark.parametrize("columns", [32, 96, 80])
def test_rounding_is_that_of_onnxruntime(columns: int) -> None:
    weight = _weight(24, columns)
    weight[3] = 0
    assert torch.allclose(rounded(weight), _by_onnxruntime(weight), atol=1e-6)


@pytest.mark.parametrize("columns", [64, 80])
def test_onnxruntime_leaves_fitted_weights_as_they_are(columns: int) -> None:
    weight, given = _weight(40, columns), _inputs(columns)
    weight[5, :32] = 0
    made = fitted(weight, given.T @ given)
    assert torch.allclose(_by_onnxruntime(made), made, atol=1e-5)
    assert not torch.allclose(made, rounded(weight), atol=1e-3)


def test_fitted_weights_lose_less_of_what_they_write() -> None:
    weight, given = _weight(64, 96), _inputs(96)

    def lost(made: Tensor) -> float:
        return float((given @ (made - weight).T).square().mean())

    assert lost(fitted(weight, given.T @ given)) < 0.5 * lost(rounded(weight))


def test_channels_that_nothing_comes_through_do_not_matter() -> None:
    weight, given = _weight(16, 64), _inputs(64)
    given[:, 10:40] = 0
    made = fitted(weight, given.T @ given)
    assert bool(made.isfinite().all())
    assert torch.equal(fitted(weight, torch.zeros(64, 64)), rounded(weight))
