"""Take whole attention heads and feed-forward channels out of a decoder, the same number in every layer.

What each layer keeps is its own choice; how many is one number for all, so that `config.json` says it and any program
loads the result. The slicing is our own: Torch-Pruning's DependencyGraph finds the coupling of the feed-forward
matrices, but does not return from `get_pruning_group` for `q_proj` of a decoder whose heads share keys and values
(torch-pruning 1.6.1, torch 2.13), and a removed head is four slices here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vivace.compress.prune.decoder import Decoder, Shape, set_weight
from vivace.compress.prune.importance import WidthNumbers
from vivace.compress.prune.walk import inputs_of
from vivace.errors import ConfigError, ModelError

WidthMethod = Literal["taylor", "activation"]
HeadUnit = Literal["group", "head"]


@dataclass(frozen=True)
class Width:
    """Which query heads, groups of keys and values, and channels each layer keeps, in order."""

    heads: list[list[int]]
    groups: list[list[int]]
    channels: list[list[int]]

    def counts(self) -> dict[str, int]:
        """How many of each a layer has."""
        return {"heads": len(self.heads[0]), "groups": len(self.groups[0]), "channels": len(self.channels[0])}


def whole(shape: Shape) -> Width:
    """Return the width that keeps everything."""
    return Width(
        [list(range(shape.heads)) for _ in range(shape.layers)],
        [list(range(shape.groups)) for _ in range(shape.layers)],
        [list(range(shape.channels)) for _ in range(shape.layers)],
    )


def choose_width(
    decoder: Decoder,
    numbers: WidthNumbers,
    *,
    heads: float = 1.0,
    channels: float = 1.0,
    method: WidthMethod = "taylor",
    unit: HeadUnit = "group",
    multiple: int = 32,
) -> Width:
    """Return what to keep of each layer for these shares of heads and channels.

    With the unit `group` a head goes with all that share its keys and values; with `head` each group loses as many
    query heads and keeps its keys and values. Channels are rounded to a `multiple`, heads to a number that the
    architecture's configuration allows (some ask that it divide the hidden size). At least one of each stays.
    """
    shape = decoder.shape
    kept = whole(shape)
    if channels < 1:
        count = max(1, min(shape.channels, multiple * max(1, round(channels * shape.channels / multiple))))
        scores = getattr(numbers, f"channels_{method}")
        kept = Width(kept.heads, kept.groups, [_best(row, count) for row in scores])
    if heads < 1:
        count = _possible_heads(decoder, heads, unit)
        chosen, groups = _choose_heads(shape, numbers, count, method, unit)
        kept = Width(chosen, groups, kept.channels)
    return kept


def _best(scores: Sequence[float], count: int) -> list[int]:
    """Return the `count` highest scores' places, in order of place; of equal ones the first."""
    order = np.argsort(-np.asarray(scores), kind="stable")[:count]
    return sorted(order.tolist())


def _possible_heads(decoder: Decoder, share: float, unit: HeadUnit) -> int:
    """Return how many groups (or heads in each group) to keep: the nearest number that can be loaded, ties upward."""
    shape = decoder.shape
    total = shape.groups if unit == "group" else shape.heads_per_group
    loadable = [count for count in range(1, total + 1) if _loads(decoder, count, unit)]
    if loadable in ([], [total]):
        raise ConfigError(
            f"{decoder.name} has {shape.heads} heads in {shape.groups} groups, and no smaller number of "
            f"{'groups' if unit == 'group' else 'heads in a group'} can be loaded.",
            f'Set head_unit = "{"head" if unit == "group" else "group"}" in [compress.prune], or heads = 1.',
        )
    return min(loadable, key=lambda count: (abs(count / total - share), -count))


def _loads(decoder: Decoder, count: int, unit: HeadUnit) -> bool:
    shape = decoder.shape
    groups = count if unit == "group" else shape.groups
    heads = groups * (shape.heads_per_group if unit == "group" else count)
    config = decoder.config
    told = config.to_dict() | {"num_attention_heads": heads, "num_key_value_heads": groups, "head_dim": shape.head_dim}
    try:
        type(config).from_dict(told)
    except Exception:  # whatever the architecture's own check raises
        return False
    return True


def _choose_heads(
    shape: Shape, numbers: WidthNumbers, count: int, method: WidthMethod, unit: HeadUnit
) -> tuple[list[list[int]], list[list[int]]]:
    size = shape.heads_per_group
    if unit == "group":
        groups = [_best(row, count) for row in getattr(numbers, f"groups_{method}")]
        return [[group * size + i for group in row for i in range(size)] for row in groups], groups
    heads = []
    for row in getattr(numbers, f"heads_{method}"):
        parts = [(g * size, _best(row[g * size : (g + 1) * size], count)) for g in range(shape.groups)]
        heads.append([first + i for first, best in parts for i in best])
    return heads, whole(shape).groups


def narrow(decoder: Decoder, width: Width) -> None:
    """Slice every layer to `width`; raises `ModelError` when the result does not answer as it must.

    What it must: as the model before does while the heads and channels that go give zeros.
    """
    check_independent(decoder)
    before = _with_zeros(decoder, width)
    shape = decoder.shape
    for layer in range(shape.layers):
        slice_heads(decoder, layer, shape, width.heads[layer], width.groups[layer])
        slice_channels(decoder, layer, shape, width.channels[layer])
    adjust(decoder, shape, width)
    ids = _trial(decoder)
    with torch.no_grad():
        after = decoder.trunk(input_ids=ids, use_cache=False).last_hidden_state
    if not torch.allclose(before, after, rtol=1e-3, atol=1e-3 * float(before.abs().max())):
        raise ModelError(
            f"{decoder.name} cannot be made narrower: its heads or channels are not independent.",
            "Prune layers instead.",
        )


def check_independent(decoder: Decoder) -> None:
    """Raise `ModelError` when something between the matrices spans several heads, such as OLMo 2's norms."""
    shape = decoder.shape
    for layer in decoder.layers:
        inside: Any = layer.self_attn
        linear = {id(part) for each in inside.modules() if isinstance(each, nn.Linear) for part in each.parameters()}
        for name, part in inside.named_parameters():
            if id(part) not in linear and part.numel() != shape.head_dim:
                raise ModelError(
                    f"{decoder.name} cannot lose heads: {name} spans all of them.", "Prune layers instead."
                )


def _with_zeros(decoder: Decoder, width: Width) -> Tensor:
    with torch.no_grad(), inputs_of(*masked(decoder, width)):
        found: Tensor = decoder.trunk(input_ids=_trial(decoder), use_cache=False).last_hidden_state
    return found


def masked(decoder: Decoder, width: Width) -> tuple[dict[str, nn.Linear], Any]:
    """Return what `inputs_of` needs so that all but `width` gives zeros: the model answers as if it were narrower."""
    shape = decoder.shape
    modules, masks = {}, {}
    for layer in range(shape.layers):
        for name, module, kept, size in (
            (f"{layer}.heads", decoder.output(layer), width.heads[layer], shape.head_dim),
            (f"{layer}.channels", decoder.down(layer), width.channels[layer], 1),
        ):
            mask = torch.zeros(module.in_features)
            mask[positions(kept, size)] = 1
            if not bool(mask.all()):
                modules[name], masks[name] = module, mask
    return modules, lambda name, given: given * masks[name]


def _trial(decoder: Decoder) -> Tensor:
    return torch.arange(3, 35)[None] % int(decoder.config.vocab_size)


def positions(units: Sequence[int], size: int, start: int = 0) -> Tensor:
    """Return the places of units of `size` numbers each, in order, counted from `start`."""
    return (torch.tensor(list(units), dtype=torch.long)[:, None] * size + torch.arange(size)).flatten() + start


def slice_heads(decoder: Decoder, layer: int, shape: Shape, heads: Sequence[int], groups: Sequence[int]) -> None:
    """Keep these query heads and groups of one layer."""
    if len(heads) == shape.heads and len(groups) == shape.groups:
        return
    size = shape.head_dim
    attention: Any = decoder.layers[layer].self_attn
    query, key = positions(heads, size), positions(groups, size)
    if hasattr(attention, "qkv_proj"):
        first = shape.heads * size
        _keep_rows(attention.qkv_proj, torch.cat([query, key + first, key + first + shape.groups * size]))
    else:
        _keep_rows(attention.q_proj, query)
        _keep_rows(attention.k_proj, key)
        _keep_rows(attention.v_proj, key)
    set_weight(attention.o_proj, attention.o_proj.weight[:, query])
    changed = {
        "num_heads": len(heads),
        "num_key_value_heads": len(groups),
        "num_key_value_groups": len(heads) // len(groups),
    }
    for name, value in changed.items():
        if hasattr(attention, name):
            setattr(attention, name, value)


def slice_channels(decoder: Decoder, layer: int, shape: Shape, channels: Sequence[int]) -> None:
    """Keep these feed-forward channels of one layer."""
    if len(channels) == shape.channels:
        return
    kept = positions(channels, 1)
    block: Any = decoder.layers[layer].mlp
    if hasattr(block, "gate_up_proj"):
        _keep_rows(block.gate_up_proj, torch.cat([kept, kept + shape.channels]))
    else:
        _keep_rows(block.gate_proj, kept)
        _keep_rows(block.up_proj, kept)
    set_weight(block.down_proj, block.down_proj.weight[:, kept])
    if hasattr(block, "intermediate_size"):
        block.intermediate_size = len(channels)


def adjust(decoder: Decoder, shape: Shape, width: Width) -> None:
    """Say the new width in the configuration; the width of a head is written out, it no longer follows from others."""
    counts = width.counts()
    config = decoder.config
    config.num_attention_heads = counts["heads"]
    config.num_key_value_heads = counts["groups"]
    config.intermediate_size = counts["channels"]
    config.head_dim = shape.head_dim


def _keep_rows(linear: nn.Linear, rows: Tensor) -> None:
    set_weight(linear, linear.weight[rows], None if linear.bias is None else linear.bias[rows])
