"""Weights read as they lie in the files: is the head tied as the configuration says, is the merge base plus adapter."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from vivace.errors import ModelError
from vivace.models.tokenizer import read_json
from vivace.parity.findings import Finding

Floats = npt.NDArray[np.float32]
_HEADS = ("lm_head.weight", "embed_out.weight", "output.weight")
_EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
_TYPES = {"F32": np.float32, "F16": np.float16, "F64": np.float64}
_MATRICES = 24  # so many adapted matrices are multiplied out, from the first layer to the last
_TOLERANCE = 4e-6  # of a matrix's largest number: fp32 keeps 24 bits, bf16 8
_PREFIX = "base_model.model."

NOT_MERGED = "the adapter is not in the weights"
ROUNDED = "rounded to {}: merged or saved in less than fp32"
OTHER = "not the base plus this adapter: merged from another checkpoint, or into another base"
OUTSIDE = "weights that the adapter does not touch are not the base's"
_MERGE_HINT = "Merge the trained adapter again, in fp32: delete the merged model and run `vivace compress`."
_TIED_HINT = (
    "The configuration and the weights contradict one another: save the model again with the head that belongs to it, "
    "and tie_word_embeddings set accordingly."
)


class Tensors:
    """The tensors of a folder's safetensors files by name, read one at a time."""

    def __init__(self, folder: Path) -> None:
        self._where: dict[str, tuple[Path, int, Mapping[str, Any]]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                with open(path, "rb") as file:
                    (size,) = struct.unpack("<Q", file.read(8))
                    header = json.loads(file.read(size))
                for name, tensor in header.items():
                    if name != "__metadata__":
                        self._where[name] = (path, 8 + size, tensor)
            except (OSError, ValueError, struct.error, AttributeError) as error:
                raise ModelError(f"{path} is not a whole safetensors file: {error}.") from error

    def __contains__(self, name: str) -> bool:
        return name in self._where

    @property
    def names(self) -> list[str]:
        """All names, in the order of the files."""
        return list(self._where)

    def kind(self, name: str) -> str:
        """Return how a tensor's numbers are written, such as F32."""
        return str(self._where[name][2]["dtype"])

    def read(self, name: str) -> Floats:
        """Return a tensor in fp32; raises `ModelError` for numbers that are packed."""
        path, start, tensor = self._where[name]
        first, last = tensor["data_offsets"]
        with open(path, "rb") as file:
            file.seek(start + first)
            content = file.read(last - first)
        kind, shape = self.kind(name), tensor["shape"]
        if kind == "BF16":
            return (np.frombuffer(content, "<u2").astype(np.uint32) << 16).view(np.float32).reshape(shape)
        if kind not in _TYPES:
            raise ModelError(f"{path.name} holds {name} as {kind}, which is not read here.")
        return np.frombuffer(content, np.dtype(_TYPES[kind]).newbyteorder("<")).astype(np.float32).reshape(shape)


def check_tied(hop: str, folder: Path) -> list[Finding]:
    """Return whether the head is what `tie_word_embeddings` says; nothing for a folder whose names are not known."""
    tensors = Tensors(folder)
    config = read_json(folder / "config.json")
    embedding = next((name for name in tensors.names if name.endswith(_EMBEDDINGS)), None)
    if embedding is None:
        return []
    head = next((name for name in tensors.names if name.endswith(_HEADS)), None)
    said = config.get("tie_word_embeddings")
    told = config.get("text_config")
    if said is None and isinstance(told, dict):
        said = told.get("tie_word_embeddings")
    if said is None:  # each family has its own default then, which the other checks see
        return []
    same = head is not None and _alike(tensors, embedding, head)
    expected = "one matrix, as tie_word_embeddings says" if said else "a head of its own, as tie_word_embeddings says"
    if said:
        met = head is None or same
        found = "one matrix" if met else "a head with other weights"
    else:
        met = head is not None
        found = "no head: a random one would be made" if head is None else "the same matrix twice" if same else "a head"
    return [Finding(hop, "tied embeddings", met, expected, found, hint="" if met else _TIED_HINT)]


def check_merge(hop: str, adapter: Path, base: Path, merged: Path) -> list[Finding]:
    """Return whether merged matrices are W + (alpha / r) B A of this adapter, to the last bits of fp32.

    Some of them are multiplied out: Hu et al. 2021, https://arxiv.org/abs/2106.09685; rsLoRA divides by the root of
    r. Other kinds of adapters are left to the log-probabilities, and nothing is returned.
    """
    settings = read_json(adapter / "adapter_config.json")
    if settings.get("peft_type") != "LORA" or settings.get("use_dora") or settings.get("lora_bias"):
        return []
    parts, before, after = Tensors(adapter), Tensors(base), Tensors(merged)
    marker = ".lora_A.weight"
    adapted = [name.removesuffix(marker) for name in parts.names if name.endswith(marker)]
    pairs = [(name, name.removeprefix(_PREFIX) + ".weight") for name in adapted]
    pairs = [(name, weight) for name, weight in pairs if weight in before and weight in after]
    if not pairs:
        return []
    chosen = [pairs[round(place)] for place in np.linspace(0, len(pairs) - 1, min(_MATRICES, len(pairs)))]
    causes = []
    for name, weight in chosen:
        change = _scale(settings, name) * (parts.read(f"{name}.lora_B.weight") @ parts.read(f"{name}{marker}"))
        causes.append(
            _cause(before.read(weight), change.T if settings.get("fan_in_fan_out") else change, after, weight)
        )
    cause = next((each for each in causes if each), "") or _outside(parts, before, after, {pair[1] for pair in pairs})
    if cause:
        return [Finding(hop, "merged weights", False, "base plus adapter in fp32", "", cause, _MERGE_HINT)]
    return [Finding(hop, "merged weights", True, found=f"base plus adapter, {len(chosen)} matrices multiplied out")]


def _cause(base: Floats, change: Floats, after: Tensors, name: str) -> str:
    found = after.read(name)
    if found.shape != base.shape or change.shape != base.shape:
        return OTHER
    expected = base + change
    largest = float(np.abs(expected).max()) or 1.0
    rounded = {"BF16": "bf16", "F16": "fp16"}.get(after.kind(name), "")
    if not rounded and np.abs(found - expected).max() <= _TOLERANCE * largest:
        return ""
    if np.array_equal(found, base):
        return NOT_MERGED
    for kind, steps in (("bf16", 2**-7), ("fp16", 2**-9)):
        near = np.abs(found - expected) <= steps * np.maximum(np.abs(expected), np.abs(base)) + 1e-8
        if (rounded in ("", kind)) and near.all() and np.array_equal(_rounded(found, kind), found):
            return ROUNDED.format(kind)
    return OTHER


def _outside(parts: Tensors, before: Tensors, after: Tensors, adapted: set[str]) -> str:
    """Say whether two tensors that no adapter touches are others than the base's."""
    saved = {name.removeprefix(_PREFIX).replace("modules_to_save.", "") for name in parts.names}
    free = [name for name in before.names if name in after and name not in adapted and name not in saved]
    for name in (*free[:1], *free[-1:]):
        ours, theirs = before.read(name), after.read(name)
        if ours.shape != theirs.shape or np.abs(ours - theirs).max(initial=0.0) > _TOLERANCE * np.abs(ours).max():
            return OUTSIDE
    return ""


def _scale(settings: Mapping[str, Any], name: str) -> float:
    rank, alpha = int(settings.get("r", 8)), float(settings.get("lora_alpha", 8))
    plain = name.removeprefix(_PREFIX)
    for pattern, value in (settings.get("rank_pattern") or {}).items():
        rank = int(value) if plain.endswith(pattern) else rank
    for pattern, value in (settings.get("alpha_pattern") or {}).items():
        alpha = float(value) if plain.endswith(pattern) else alpha
    return alpha / (rank**0.5 if settings.get("use_rslora") else rank)


def _rounded(values: Floats, kind: str) -> Floats:
    """Return what is left of fp32 numbers in fewer bits."""
    if kind == "fp16":
        return values.astype(np.float16).astype(np.float32)
    return (values.view(np.uint32) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def _alike(tensors: Tensors, one: str, other: str) -> bool:
    first, second = tensors.read(one), tensors.read(other)
    return first.shape == second.shape and bool(np.array_equal(first, second))
