"""Compressed-tensors folders read by hand, from the format's own words and nothing else."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file

Floats = npt.NDArray[np.float32]


def stored(folder: Path) -> dict[str, torch.Tensor]:
    """Return every tensor of a folder."""
    return {name: value for path in sorted(folder.glob("*.safetensors")) for name, value in load_file(path).items()}


def unpacked(packed: torch.Tensor, columns: int) -> npt.NDArray[np.int64]:
    """Return the signed 4-bit numbers of int32 words: eight a word, the lowest bits first, each with 8 added."""
    words = packed.numpy().astype(np.int64) & 0xFFFFFFFF
    nibbles = np.stack([(words >> (4 * place)) & 0xF for place in range(8)], axis=-1)
    return nibbles.reshape(len(words), -1)[:, :columns] - 8


def dequantized(tensors: dict[str, torch.Tensor], name: str) -> tuple[Floats, Floats]:
    """Return the weights of a matrix and the step of each, both [outputs, inputs]."""
    scale = tensors[f"{name}.weight_scale"].float().numpy()
    if f"{name}.weight" in tensors:
        numbers = tensors[f"{name}.weight"].numpy().astype(np.float32)
        return numbers * scale, np.broadcast_to(scale, numbers.shape)
    rows, columns = tensors[f"{name}.weight_shape"].tolist()
    numbers = unpacked(tensors[f"{name}.weight_packed"], columns).astype(np.float32)
    assert numbers.shape == (rows, columns)
    steps = np.repeat(scale, columns // scale.shape[1], axis=1)
    return numbers * steps, steps


def matrices(tensors: dict[str, torch.Tensor]) -> list[str]:
    """Return the names of the quantized matrices."""
    return sorted(name.removesuffix(".weight_scale") for name in tensors if name.endswith(".weight_scale"))
