"""Let the heads and channels that stay say what those that go would have said, by least squares."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vivace.compress.prune.decoder import Decoder, set_weight
from vivace.compress.prune.sample import Batch
from vivace.compress.prune.walk import Walk, inputs_of
from vivace.compress.prune.width import Width, adjust, check_independent, positions, slice_channels, slice_heads
from vivace.domain import Task

RIDGE = 0.01  # of the mean square of what is read: more trusts the weights, less the sample


def gram(module: nn.Linear, walks: Sequence[Walk], states: Sequence[Tensor], layer: int) -> Tensor:
    """Return X^T X of what a matrix of a layer reads, padding left out, (in, in)."""
    found = torch.zeros(module.in_features, module.in_features)
    for walk, hidden in zip(walks, states, strict=True):
        with inputs_of({"it": module}, _adding(found, walk.batch)):
            walk.step(layer, hidden)
    return found


def _adding(total: Tensor, batch: Batch) -> Any:
    def see(_name: str, given: Tensor) -> None:
        read = given[batch.real]
        total.addmm_(read.T, read)

    return see


def compensated(weight: Tensor, gram: Tensor, kept: Tensor) -> Tensor:
    """Return the columns `kept` of a matrix (out, in) so that it writes, over the sample, nearly what it wrote.

    W_K + W_G G_GK (G_KK + r I)^-1 with K what is kept, G what goes: the minimum of ||W' x_K - W x||^2 with a ridge that
    pulls to the plain columns, the closed form of optimal brain surgery for whole columns (Hassibi & Stork 1992; for
    language models Meng et al. 2024, OSSCAR, arXiv:2403.12983).
    """
    goes = torch.ones(weight.shape[1], dtype=torch.bool)
    goes[kept] = False
    among = gram[kept][:, kept].double()
    among.diagonal().add_(RIDGE * float(gram.diagonal().mean()) + 1e-12)
    said = weight[:, goes].double() @ gram[goes][:, kept].double()
    made_up: Tensor = torch.linalg.solve(among, said.T).T.to(weight.dtype)
    return weight[:, kept] + made_up


def narrow_with_correction(decoder: Decoder, width: Width, batches: Sequence[Batch], task: Task | None = None) -> None:
    """Slice every layer to `width`, first to last, each corrected for what the layers before it now give."""
    check_independent(decoder)
    shape = decoder.shape
    walks = [Walk(decoder, batch) for batch in batches]
    states = [walk.start for walk in walks]
    with torch.no_grad():
        for layer in range(shape.layers):
            query = positions(width.heads[layer], shape.head_dim)
            if len(query) < decoder.output(layer).in_features:
                output = decoder.output(layer)
                weight = compensated(output.weight, gram(output, walks, states, layer), query)
                slice_heads(decoder, layer, shape, width.heads[layer], width.groups[layer])
                set_weight(output, weight)
            channels = positions(width.channels[layer], 1)
            if len(channels) < shape.channels:
                with _told(decoder, width):
                    down = decoder.down(layer)
                    weight = compensated(down.weight, gram(down, walks, states, layer), channels)
                slice_channels(decoder, layer, shape, width.channels[layer])
                set_weight(down, weight)
            with _told(decoder, width):
                states = [walk.step(layer, hidden) for walk, hidden in zip(walks, states, strict=True)]
            if task is not None:
                task.advance()
    adjust(decoder, shape, width)


@contextmanager
def _told(decoder: Decoder, width: Width) -> Iterator[None]:
    """Let the configuration say the new number of heads while a narrower layer runs: Phi-3 reads it there."""
    config = decoder.config
    before, config.num_attention_heads = config.num_attention_heads, width.counts()["heads"]
    try:
        yield
    finally:
        config.num_attention_heads = before
