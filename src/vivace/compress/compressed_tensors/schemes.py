"""What the kinds of compressed-tensors exports store, and which sizes of a model allow them."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from vivace.errors import ConfigError, ModelError

# The groups for which vLLM has 4-bit kernels, and what must divide the inputs of the fastest:
# MARLIN_SUPPORTED_GROUP_SIZES and GPTQ_MARLIN_MIN_THREAD_K in its marlin_utils.py.
GROUP_SIZES = (128, 64, 32)
_MARLIN_INPUTS = 128


class Scheme(Struct, frozen=True):
    """Bits of the weights, and of the activations they multiply."""

    weight_bits: int
    activation_bits: int

    @property
    def name(self) -> str:
        """How the field calls it: w8a8, w4a16."""
        return f"w{self.weight_bits}a{self.activation_bits}"


SCHEMES = {
    "compressed-w8a8": Scheme(8, 8),
    "compressed-w4a16": Scheme(4, 16),
}


def input_sizes(config: Mapping[str, Any]) -> tuple[int, ...]:
    """Return how many inputs the matrices of a decoder's layers have."""
    hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
    return hidden, heads * int(config.get("head_dim") or hidden // heads), int(config["intermediate_size"])


def group_size(name: str, config: Mapping[str, Any], most: int | None) -> int:
    """Return how many int4 weights share a scale: the largest of `GROUP_SIZES` up to `most` that divides all sizes.

    Raises `ConfigError` for a `most` below all of them, `ModelError` for a model that none divides.
    """
    allowed = [size for size in GROUP_SIZES if most is None or size <= most]
    if not allowed:
        raise ConfigError(
            f"Groups of {most} weights are too small for vLLM, whose 4-bit kernels read groups of 32, 64 and 128.",
            "Set group_size to 32 or more.",
        )
    sizes = input_sizes(config)
    for size in allowed:
        if not any(width % size for width in sizes):
            return size
    widths = ", ".join(str(width) for width in sorted(set(sizes)))
    raise ModelError(
        f"{name} cannot be exported: its matrices have {widths} inputs, which groups of {allowed[-1]} do not divide.",
        "Export it as compressed-w8a8, or prune its width to multiples of 32.",
    )


def kernel_note(config: Mapping[str, Any]) -> str:
    """Return what to know before int4 weights are served whose sizes vLLM's fastest kernel does not take."""
    odd = sorted({width for width in input_sizes(config) if width % _MARLIN_INPUTS})
    if not odd:
        return ""
    widths = ", ".join(map(str, odd))
    return f"vLLM's Marlin kernel takes no matrices of {widths} inputs; --dtype half lets it use a slower one."
