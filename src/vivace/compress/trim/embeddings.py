"""Which tensors of a model have a row for each token."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct

from vivace.compress.trim.rows import Tensor, tensors_of, weight_files
from vivace.errors import ModelError


class Embeddings(Struct, frozen=True):
    """The embedding and output layer of a model: how many rows, and in which tensors; `tied` ones are one tensor."""

    rows: int
    width: int
    tensors: frozenset[str]
    tied: bool


def find_embeddings(folder: Path, config: Mapping[str, Any]) -> Embeddings:
    """Return the tensors with one row per token, found by building the model without weights.

    Raises `ModelError` when they are not where the architecture has them, or are quantized.
    """
    if config.get("quantization_config"):
        raise ModelError(f"The weights of {folder} are quantized already.", "Trim the model before it is quantized.")
    stored = {name: tensor for path in weight_files(folder) for name, tensor in tensors_of(path).items()}
    skeleton = _skeleton(folder, config)
    inputs, outputs = skeleton.get_input_embeddings(), skeleton.get_output_embeddings()
    if inputs is None or outputs is None:
        raise ModelError(f"{folder} has no embedding or no output layer to trim.")
    rows, width = inputs.weight.shape
    wanted = {
        f"{name}.{part}"
        for name, module in skeleton.named_modules(remove_duplicate=False)
        if module is inputs or module is outputs
        for part, tensor in module.named_parameters(recurse=False)
        if tensor.shape[0] == rows
    }
    found = frozenset(wanted & stored.keys())
    if not any(name.endswith(".weight") for name in found) or any(stored[name].shape[0] != rows for name in found):
        raise ModelError(f"{folder} holds no embedding of {rows:,} tokens where its architecture has it.")
    return Embeddings(rows, width, found, tied=inputs.weight is outputs.weight)


def check_shapes(folder: Path, config: Mapping[str, Any], embeddings: Embeddings, kept: int) -> None:
    """Raise `ModelError` when another tensor than `embeddings` would have to change with `config`, the new one."""
    shapes = {name: tuple(tensor.shape) for name, tensor in _skeleton(folder, config).state_dict().items()}
    for path in weight_files(folder):
        for name, tensor in tensors_of(path).items():
            if name in shapes and shapes[name] != _trimmed(name, tensor, embeddings, kept):
                raise ModelError(
                    f"The vocabulary of {folder} cannot be trimmed: its tensor {name!r} depends on it in a way that is "
                    "not known.",
                    'Set method = "none" in [compress.trim].',
                )


def _trimmed(name: str, tensor: Tensor, embeddings: Embeddings, kept: int) -> tuple[int, ...]:
    return (kept, *tensor.shape[1:]) if name in embeddings.tensors else tensor.shape


def _skeleton(folder: Path, config: Mapping[str, Any]) -> Any:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    try:
        known = AutoConfig.for_model(**{key: value for key, value in config.items() if key != "auto_map"})
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(known)  # type: ignore[no-untyped-call]
    except Exception as error:  # whatever transformers makes of a wrong configuration
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"The model in {folder} cannot be opened: {reason}.") from error
