"""How much the domain needs each layer, each attention head and each feed-forward channel."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import torch
from msgspec import Struct
from torch import Tensor, nn

from vivace.compress.prune.decoder import Decoder
from vivace.compress.prune.sample import AnswerLoss, Batch, learned, loss_of, loss_rows
from vivace.compress.prune.walk import Walk, inputs_of
from vivace.domain import Task
from vivace.stats import Floats, mean_of_rows, paired_bootstrap_rows

DIGITS = 6


class LayerNumbers(Struct, frozen=True):
    """Layers in order. `loss_without[i]` is the domain loss when layer i is left out, `loss` with all of them.

    `intervals[i]` is the paired 95 % interval of the change. `influence[i]` is 1 - cos of the angle between what layer
    i reads and writes; `angular[n - 1][i]` the angle over pi between what layers i and i + n read.
    """

    loss: float
    loss_without: list[float]
    intervals: list[tuple[float, float]]
    influence: list[float]
    angular: list[list[float]]


class WidthNumbers(Struct, frozen=True):
    """Per layer (first index) and head, group of heads or channel. `*_taylor` is the squared change of a conversation's

    loss that first-order Taylor foretells for its removal, mean over conversations; `*_activation` the norm of what it
    writes.
    """

    heads_taylor: list[list[float]]
    groups_taylor: list[list[float]]
    channels_taylor: list[list[float]]
    heads_activation: list[list[float]]
    groups_activation: list[list[float]]
    channels_activation: list[list[float]]


def layer_numbers(decoder: Decoder, batches: Sequence[Batch], task: Task | None = None) -> LayerNumbers:
    """Measure every layer: loss without it, block influence and angular distances.

    Block influence after Men et al. 2024 (arXiv:2403.03853), angular distance after Gromov et al. 2024
    (arXiv:2403.17887), both over the positions that say an answer.
    """
    count = len(decoder.layers)
    full, without = losses_without_each(decoder, batches, list(range(count)), task)
    influence, angular = _angles(decoder, batches)
    intervals = []
    for i in range(count):
        found = paired_bootstrap_rows(without[i], full, mean_of_rows)
        intervals.append((round(found.low, DIGITS), round(found.high, DIGITS)))
    return LayerNumbers(
        loss=round(loss_of(full), DIGITS),
        loss_without=[round(loss_of(without[i]), DIGITS) for i in range(count)],
        intervals=intervals,
        influence=_rounded(influence),
        angular=[_rounded(row[: count - n]) for n, row in enumerate(angular)],
    )


def losses_without_each(
    decoder: Decoder, batches: Sequence[Batch], alive: Sequence[int], task: Task | None = None
) -> tuple[Floats, dict[int, Floats]]:
    """Return the loss rows with the layers `alive`, and with all of them but one, for each.

    What comes before the layer left out is computed once: half the work of one pass per layer.
    """
    loss = AnswerLoss(decoder)
    full: list[Floats] = []
    without: dict[int, list[Floats]] = {layer: [] for layer in alive}
    with torch.no_grad():
        for batch in batches:
            walk = Walk(decoder, batch)
            hidden = walk.start
            for place, layer in enumerate(alive):
                ended = walk.through(alive[place + 1 :], hidden)
                without[layer].append(loss_rows(loss(ended, batch), batch))
                hidden = walk.step(layer, hidden)
            full.append(loss_rows(loss(hidden, batch), batch))
            if task is not None:
                task.advance(1 / len(batches))
    return np.concatenate(full), {layer: np.concatenate(rows) for layer, rows in without.items()}


def _angles(decoder: Decoder, batches: Sequence[Batch]) -> tuple[Floats, Floats]:
    """Return the influence of each layer, (L,), and the angular distances of blocks, (L, L) by size and start."""
    count = len(decoder.layers)
    influence, angular, positions = np.zeros(count), np.zeros((count, count)), 0
    with torch.no_grad():
        for batch in batches:
            walk = Walk(decoder, batch)
            said = torch.zeros_like(batch.ids, dtype=torch.bool)
            said[:, :-1] = batch.labels[:, 1:] >= 0
            states, hidden = [], walk.start
            for layer in range(count):
                states.append(nn.functional.normalize(hidden[said].double(), dim=-1))
                hidden = walk.step(layer, hidden)
            states.append(nn.functional.normalize(hidden[said].double(), dim=-1))
            positions += len(states[0])
            for start in range(count):
                for size in range(1, count - start + 1):
                    cosine = (states[start] * states[start + size]).sum(dim=-1).clamp(-1, 1)
                    angular[size - 1, start] += float(cosine.arccos().sum()) / np.pi
                    if size == 1:
                        influence[start] += float((1 - cosine).sum())
    return influence / positions, angular / positions


def width_numbers(decoder: Decoder, batches: Sequence[Batch], task: Task | None = None) -> WidthNumbers:
    """Measure every head and channel by activation times gradient and by activation norm.

    First-order Taylor of a gate on what each head or channel gives, squared per conversation (Molchanov et al. 2019,
    arXiv:1906.10771); activation norm times weight norm after Wanda (Sun et al. 2023, arXiv:2306.11695) for whole
    columns. One layer's graph at a time is in memory.
    """
    shape = decoder.shape
    heads, groups = np.zeros((shape.layers, shape.heads)), np.zeros((shape.layers, shape.groups))
    channels = np.zeros((shape.layers, shape.channels))
    seen_heads, seen_channels = np.zeros((shape.layers, shape.heads * shape.head_dim)), np.zeros_like(channels)
    rows = 0
    for batch in batches:
        for layer, (gates, squares) in _gate_gradients(decoder, batch).items():
            by_head = gates["heads"]
            heads[layer] += (by_head**2).sum(axis=0)
            groups[layer] += (by_head.reshape(len(by_head), shape.groups, -1).sum(axis=2) ** 2).sum(axis=0)
            channels[layer] += (gates["channels"] ** 2).sum(axis=0)
            seen_heads[layer] += squares["heads"]
            seen_channels[layer] += squares["channels"]
        rows += len(batch.ids)
        if task is not None:
            task.advance(1 / len(batches))
    written = np.stack([seen_heads[i] * _column_squares(decoder.output(i)) for i in range(shape.layers)])
    by_head = written.reshape(shape.layers, shape.heads, -1).sum(axis=2)
    by_channel = np.stack([seen_channels[i] * _column_squares(decoder.down(i)) for i in range(shape.layers)])
    return WidthNumbers(
        heads_taylor=_table(heads / rows),
        groups_taylor=_table(groups / rows),
        channels_taylor=_table(channels / rows),
        heads_activation=_table(by_head**0.5),
        groups_activation=_table(by_head.reshape(shape.layers, shape.groups, -1).sum(axis=2) ** 0.5),
        channels_activation=_table(by_channel**0.5),
    )


def _gate_gradients(decoder: Decoder, batch: Batch) -> dict[int, tuple[dict[str, Floats], dict[str, Floats]]]:
    """Return per layer the gradients of the rows' losses by each head's and channel's gate, and squared activations."""
    walk, loss = Walk(decoder, batch), AnswerLoss(decoder)
    read = [walk.start]
    with torch.no_grad():
        for layer in range(len(decoder.layers)):
            read.append(walk.step(layer, read[-1]))
    last = read.pop().requires_grad_()
    (flow,) = torch.autograd.grad((loss(last, batch) / learned(batch).clamp(min=1)).sum(), last)
    found = {}
    for layer in reversed(range(len(decoder.layers))):
        hidden = read.pop().requires_grad_()
        gates = _gates(decoder, batch)
        squares: dict[str, Floats] = {}

        def through(name: str, given: Tensor, gates: Any = gates, squares: Any = squares) -> Tensor:
            squares[name] = given.detach()[batch.real].double().square().sum(dim=0).numpy()
            gate: Tensor = gates[name]
            gated: Tensor = given * gate.repeat_interleave(given.shape[-1] // gate.shape[-1], dim=-1)
            return gated

        modules = {"heads": decoder.output(layer), "channels": decoder.down(layer)}
        with inputs_of(modules, through):
            made = walk.step(layer, hidden)
        flow, *by_gate = torch.autograd.grad(made, [hidden, *gates.values()], flow)
        slopes = {name: slope[:, 0].double().numpy() for name, slope in zip(gates, by_gate, strict=True)}
        found[layer] = (slopes, squares)
    return found


def _gates(decoder: Decoder, batch: Batch) -> dict[str, Tensor]:
    rows, shape = len(batch.ids), decoder.shape
    return {
        "heads": torch.ones(rows, 1, shape.heads, requires_grad=True),
        "channels": torch.ones(rows, 1, shape.channels, requires_grad=True),
    }


def _column_squares(linear: nn.Linear) -> Floats:
    found: Floats = linear.weight.detach().double().square().sum(dim=0).numpy()
    return found


def _table(values: Floats) -> list[list[float]]:
    return [_rounded(row) for row in values]


def _rounded(values: Floats) -> list[float]:
    """Return values to six significant digits: the last bits depend on the machine."""
    return [float(f"{value:.{DIGITS}g}") for value in values]


def to_json(layers: LayerNumbers | None, width: WidthNumbers | None) -> bytes:
    """Return the numbers as JSON, the same bytes for the same numbers."""
    return msgspec.json.encode({"layers": layers, "width": width}, order="deterministic")
