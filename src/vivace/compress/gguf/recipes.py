"""Which GGML type each tensor of a GGUF file gets: the recipes that llama.cpp's users know by name."""

from collections.abc import Mapping, Sequence
from enum import IntEnum

from msgspec import Struct

SUPER_BLOCK = 256  # weights that share one scale of scales in a K-quant
BLOCK = 32  # weights that share one scale in the older types


class GgmlType(IntEnum):
    """The types used here, as GGML numbers them."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q8_0 = 8
    Q4_K = 12
    Q6_K = 14


class Recipe(Struct, frozen=True):
    """`file_type` is `general.file_type`; `usual` the type of most matrices, `better` of those that matter more."""

    name: str
    file_type: int
    usual: GgmlType
    better: GgmlType
    calibrated: bool = True


RECIPES = {
    "gguf-f16": Recipe("F16", 1, GgmlType.F16, GgmlType.F16, calibrated=False),
    "gguf-q8_0": Recipe("Q8_0", 7, GgmlType.Q8_0, GgmlType.Q8_0, calibrated=False),
    "gguf-q6_k": Recipe("Q6_K", 18, GgmlType.Q6_K, GgmlType.Q6_K),
    "gguf-q4_k_m": Recipe("Q4_K_M", 15, GgmlType.Q4_K, GgmlType.Q6_K),
    "gguf-q4_0": Recipe("Q4_0", 2, GgmlType.Q4_0, GgmlType.Q6_K),
}
# What takes the place of a K-quant where a row is no multiple of 256 weights: the next larger type in blocks of 32.
_FALLBACKS = {GgmlType.Q4_K: GgmlType.Q5_0, GgmlType.Q6_K: GgmlType.Q8_0}


def tensor_type(
    recipe: Recipe, name: str, shape: Sequence[int], *, layers: int, tied: bool, importance: bool
) -> GgmlType:
    """Return the type of the tensor `name` (in GGUF's words; `shape` begins with the rows).

    Vectors stay fp32. The output layer, which is the token embedding where they are tied, gets the better type; in
    Q4_K_M so do `attn_v` and `ffn_down` of the first and the last eighth of the layers and of every third between.
    """
    if len(shape) == 1:
        return GgmlType.F32
    return _fitting(_wanted(recipe, name, layers, tied, importance), shape[-1])


def _wanted(recipe: Recipe, name: str, layers: int, tied: bool, importance: bool) -> GgmlType:
    if name == ("token_embd.weight" if tied else "output.weight"):
        return recipe.better
    parts = name.split(".")
    if parts[0] != "blk":
        return recipe.usual
    layer, part = int(parts[1]), parts[2]
    if recipe.usual is GgmlType.Q4_K and part in ("attn_v", "ffn_down") and _sensitive(layer, layers):
        return recipe.better
    # An importance matrix makes a second number per block pay where errors reach furthest: in the first layers.
    if recipe.usual is GgmlType.Q4_0 and part == "ffn_down" and importance and layer < layers // 8:
        return GgmlType.Q4_1
    return recipe.usual


def _sensitive(layer: int, layers: int) -> bool:
    eighth = layers // 8
    return layer < eighth or layer >= 7 * layers // 8 or (layer - eighth) % 3 == 2


def _fitting(wanted: GgmlType, columns: int) -> GgmlType:
    if columns % SUPER_BLOCK:
        wanted = _FALLBACKS.get(wanted, wanted)
    if columns % BLOCK and wanted not in (GgmlType.F16, GgmlType.F32):
        return GgmlType.F16
    return wanted


def shares(counts: Mapping[GgmlType, int]) -> str:
    """Return how many of the weights are of which type, such as `Q5_0 61 %, Q8_0 39 %`; vectors are left out."""
    total = sum(counts.values()) or 1
    parts = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{kind.name} {100 * count / total:.0f} %" for kind, count in parts if count * 100 >= total)
