"""Zeros in one matrix: as many as asked for, where asked for, and the better method loses less."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vivace.compress.prune.masks import check_zeros, magnitude, parse_pattern, sparsegpt, sparsity_of, wanda
from vivace.errors import ConfigError, ModelError


def layer(rows: int = 48, columns: int = 256, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix and what it reads: correlated, some of it much larger than the rest."""
    torch.manual_seed(seed)
    read = torch.randn(1500, columns // 4) @ torch.randn(columns // 4, columns) + 0.5 * torch.randn(1500, columns)
    return torch.randn(rows, columns), read * torch.logspace(-1, 1, columns)[torch.randperm(columns)]


def pruned(method: str, weight: torch.Tensor, read: torch.Tensor, sparsity: float, pattern: str) -> torch.Tensor:
    if method == "magnitude":
        return magnitude(weight, sparsity, pattern)
    if method == "wanda":
        return wanda(weight, read.square().sum(dim=0).sqrt(), sparsity, pattern)
    return sparsegpt(weight, read.T @ read, sparsity, pattern)


@pytest.mark.parametrize(
    ("sparsity", "pattern"), [(0.5, "unstructured"), (0.7, "unstructured"), (0.5, "2:4"), (0.5, "4:8")]
)
def test_sparsegpt_loses_less_than_wanda_and_wanda_less_than_magnitude(sparsity: float, pattern: str) -> None:
    weight, read = layer()
    wanted = read @ weight.T
    errors = [
        float((read @ pruned(method, weight, read, sparsity, pattern).T - wanted).norm() / wanted.norm())
        for method in ("sparsegpt", "wanda", "magnitude")
    ]
    assert errors[0] < 0.9 * errors[1]
    assert errors[1] < 0.9 * errors[2]


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
@given(st.integers(1, 9), st.integers(0, 3))
def test_as_many_zeros_as_asked_for(method: str, tenths: int, seed: int) -> None:
    weight, read = layer(12, 160, seed)
    found = pruned(method, weight, read, tenths / 10, "unstructured")
    assert int((found == 0).sum()) == round(tenths / 10 * weight.numel())
    assert check_zeros(found, tenths / 10, "unstructured", "it") == pytest.approx(tenths / 10, abs=1e-3)


@pytest.mark.parametrize("method", ["magnitude", "wanda", "sparsegpt"])
@pytest.mark.parametrize(("pattern", "kept", "of"), [("2:4", 2, 4), ("1:4", 1, 4), ("4:8", 4, 8), ("3:16", 3, 16)])
def test_every_group_keeps_exactly_what_the_pattern_says(method: str, pattern: str, kept: int, of: int) -> None:
    weight, read = layer(20, 160)
    found = pruned(method, weight, read, 0.0, pattern)
    assert bool(((found.reshape(-1, of) != 0).sum(dim=1) == kept).all())
    assert check_zeros(found, sparsity_of(pattern, 0), pattern, "it") == pytest.approx(1 - kept / of)


def test_sparsegpt_on_white_input_is_magnitude() -> None:
    weight, _ = layer(20, 160)
    assert torch.equal(sparsegpt(weight, torch.eye(160), 0.0, "2:4"), magnitude(weight, 0.0, "2:4"))


def test_wanda_judges_rows_apart_by_weight_times_norm() -> None:
    weight = torch.tensor([[1.0, 2.0, 3.0, 4.0], [40.0, 30.0, 20.0, 10.0]])
    made = wanda(weight, torch.tensor([10.0, 1.0, 1.0, 1.0]), 0.5, "unstructured")
    assert made.tolist() == [[1.0, 0.0, 0.0, 4.0], [40.0, 30.0, 0.0, 0.0]]


def test_what_nothing_is_read_from_becomes_zero_and_nothing_becomes_nan() -> None:
    weight, read = layer()
    read[:, :5] = 0
    made = sparsegpt(weight, read.T @ read, 0.3, "unstructured")
    assert bool(made.isfinite().all())
    assert bool((made[:, :5] == 0).all())


def test_a_broken_pattern_is_noticed() -> None:
    weight, read = layer()
    made = wanda(weight, read.norm(dim=0), 0.0, "2:4")
    made[3, made[3] == 0] = 1.0
    with pytest.raises(ModelError, match="does not hold the pattern 2:4"):
        check_zeros(made, 0.5, "2:4", "it")
    with pytest.raises(ModelError, match="zeros"):
        check_zeros(torch.ones(8, 8), 0.5, "unstructured", "it")


@pytest.mark.parametrize("pattern", ["4:2", "4:4", "half", "0:4", ""])
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="no pattern"):
        parse_pattern(pattern)


def test_rows_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match="does not divide"):
        magnitude(torch.ones(4, 90), 0.0, "2:4")
