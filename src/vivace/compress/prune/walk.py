"""Walk hidden states through a decoder layer by layer, so that layers can be left out or changed on the way."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from vivace.compress.prune.decoder import HINT, Decoder
from vivace.compress.prune.sample import AnswerLoss, Batch, loss_rows
from vivace.errors import ModelError
from vivace.stats import Floats


class _Note(nn.Module):
    """Stands where a layer was, keeps what that layer would have been given and passes the hidden states on."""

    def __init__(self, layer: nn.Module, kept: list[tuple[tuple[Any, ...], dict[str, Any]]]) -> None:
        super().__init__()
        self._layer = [layer]  # in a list, so that it is no module of this one
        self._kept = kept

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._layer[0], name)

    def forward(self, hidden: Tensor, *given: Any, **named: Any) -> Tensor:
        """Keep masks and positions."""
        self._kept.append((given, named))
        return hidden


class Walk:
    """One batch on its way: `start` is what the first layer reads, (rows, T, H)."""

    def __init__(self, decoder: Decoder, batch: Batch) -> None:
        self.batch = batch
        self._layers = list(decoder.layers)
        self._given: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        trunk = decoder.trunk
        first: list[Tensor] = []
        hook = trunk.norm.register_forward_pre_hook(lambda _module, given: first.append(given[0]))
        trunk.layers = nn.ModuleList(_Note(layer, self._given) for layer in self._layers)
        try:
            with torch.no_grad():
                trunk(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)
        finally:
            hook.remove()
            trunk.layers = nn.ModuleList(self._layers)
        self.start = first[0]

    def step(self, layer: int, hidden: Tensor) -> Tensor:
        """Return what layer number `layer` makes of the hidden states, (rows, T, H)."""
        given, named = self._given[layer]
        made = self._layers[layer](hidden, *given, **named)
        found: Tensor = made[0] if isinstance(made, tuple) else made
        return found

    def through(self, layers: Sequence[int], hidden: Tensor | None = None) -> Tensor:
        """Return the hidden states after these layers in this order, from `hidden` or from the start."""
        found = self.start if hidden is None else hidden
        for layer in layers:
            found = self.step(layer, found)
        return found


def check_walk(decoder: Decoder) -> None:
    """Raise `ModelError` when layers one after the other do not give what the whole model does."""
    ids = torch.arange(3, 12)[None] % int(decoder.config.vocab_size)
    batch = Batch(ids, torch.ones_like(ids), ids)
    with torch.no_grad():
        walked = decoder.trunk.norm(Walk(decoder, batch).through(range(len(decoder.layers))))
        whole = decoder.trunk(input_ids=ids, attention_mask=batch.mask, use_cache=False).last_hidden_state
    if not torch.allclose(walked, whole, rtol=1e-4, atol=1e-4 * float(whole.abs().max())):
        raise ModelError(f"{decoder.name} does more than run one layer after the other; it cannot be pruned.", HINT)


def domain_losses(decoder: Decoder, batches: Sequence[Batch], layers: Sequence[int] | None = None) -> Floats:
    """Return (summed loss, answer tokens) of each conversation, (conversations, 2), with these layers or with all."""
    chosen = range(len(decoder.layers)) if layers is None else layers
    loss = AnswerLoss(decoder)
    found = []
    with torch.no_grad():
        for batch in batches:
            found.append(loss_rows(loss(Walk(decoder, batch).through(chosen), batch), batch))
    return np.concatenate(found)


@contextmanager
def inputs_of(modules: dict[str, nn.Linear], see: Callable[[str, Tensor], Tensor | None]) -> Iterator[None]:
    """Show `see` what each matrix is about to read; what it returns, if anything, is read instead."""

    def hook(name: str) -> Callable[..., Any]:
        def seen(_module: nn.Module, given: tuple[Tensor, ...]) -> Any:
            changed = see(name, given[0])
            return None if changed is None else (changed, *given[1:])

        return seen

    handles = [module.register_forward_pre_hook(hook(name)) for name, module in modules.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
