"""Move scale from what a matrix reads into the matrix, where four bits hold it better, without changing the model."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vivace.compress.prune.decoder import Decoder
from vivace.compress.quantize.rounding import rounded
from vivace.errors import ModelError

STEPS = 10  # exponents 0, 0.1 … 1
_SMALLEST = 1e-4


@dataclass(frozen=True)
class Reading:
    """What a matrix reads on some texts: X^T X [in, in] and the mean size of each channel [in]."""

    gram: Tensor
    size: Tensor


def rescale_layer(decoder: Decoder, layer: int, read: dict[str, Reading]) -> dict[str, float]:
    """Rescale the channels between the matrices of a layer and return the exponent of each place.

    AWQ, Lin et al. 2023 (https://arxiv.org/abs/2306.00978): a channel of size a gets the scale a^e, the exponent being
    the one that leaves the least error in what the matrices write when they are rounded. What the matrices multiply is
    divided by the same: in the norm before queries, keys and values, in that before gate and up, in the rows of the
    values for the output matrix (heads that share values share the scale), in the rows of up for down.
    """
    linears = decoder.linears(layer)
    if "self_attn.q_proj" not in linears or "mlp.gate_proj" not in linears:
        raise ModelError(
            f"{decoder.name} ({type(decoder.model).__name__}) cannot be rescaled: its matrices are joined.",
            'Set calibration = "none" in [compress.quantize].',
        )
    attention = [linears[f"self_attn.{name}_proj"] for name in ("q", "k", "v")]
    value, output = attention[-1], linears["self_attn.o_proj"]
    feed_forward = [linears[f"mlp.{name}_proj"] for name in ("gate", "up")]
    up, down = feed_forward[-1], linears["mlp.down_proj"]
    parts = dict(decoder.layers[layer].named_children())
    shape = decoder.shape

    def by_group(size: Tensor) -> Tensor:
        return size.reshape(shape.groups, shape.heads_per_group, shape.head_dim).mean(dim=1).reshape(-1)

    def to_heads(scale: Tensor) -> Tensor:
        groups = scale.reshape(shape.groups, 1, shape.head_dim)
        return groups.expand(-1, shape.heads_per_group, -1).reshape(-1)

    places: list[tuple[str, list[nn.Linear], nn.Module, Reading, Callable[[Tensor], Tensor] | None]] = [
        ("attention", attention, parts["input_layernorm"], read["self_attn.q_proj"], None),
        ("output", [output], value, read["self_attn.o_proj"], to_heads),
        ("feed_forward", feed_forward, parts["post_attention_layernorm"], read["mlp.gate_proj"], None),
        ("down", [down], up, read["mlp.down_proj"], None),
    ]
    found = {}
    for name, readers, writer, reading, widened in places:
        size = by_group(reading.size) if widened else reading.size
        exponent, scale = _best(readers, size, reading.gram, widened or (lambda same: same))
        wide = widened(scale) if widened else scale
        for reader in readers:
            reader.weight.mul_(wide)
        _divide(writer, scale)
        found[name] = exponent
    return found


def _best(
    readers: list[nn.Linear], size: Tensor, gram: Tensor, widened: Callable[[Tensor], Tensor]
) -> tuple[float, Tensor]:
    """Return the exponent and the scales with the least error after rounding; exponent 0 changes nothing."""
    weight = torch.cat([reader.weight for reader in readers])
    best = (float("inf"), 0.0, torch.ones_like(size))
    for step in range(STEPS + 1):
        exponent = step / STEPS
        scale = size.clamp(min=_SMALLEST * float(size.max()) or 1.0) ** exponent
        scale = scale / (scale.max() * scale.min()).sqrt()
        wide = widened(scale)
        lost = rounded(weight * wide) / wide - weight
        error = float(((lost @ gram) * lost).sum())
        if error < best[0]:
            best = (error, exponent, scale)
    return best[1], best[2]


def _divide(writer: nn.Module, scale: Tensor) -> None:
    """Divide what a norm or matrix writes: its gains, or its rows and their biases."""
    weight: Tensor = writer.weight  # type: ignore[assignment]
    weight.div_(scale if weight.dim() == 1 else scale[:, None])
    bias = getattr(writer, "bias", None)
    if bias is not None:
        bias.div_(scale)
