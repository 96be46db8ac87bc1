"""What leaves the frozen layers at the bottom, computed once a conversation and kept."""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from vivace.errors import ModelError
from vivace.models.depth import layers_path, set_layers
from vivace.train.head_loss import backbone

WORTH = 1.2
"""Conversations must be read so many times on average for the states to be kept."""
MEMORY_SHARE = 0.25
"""Share of the free memory that the states may take."""


class _ReachedError(Exception):
    """The forward pass has come to the first trained layer."""


class FrozenBottom:
    """The layers of `model` below its first trained one, whose output for a conversation is always the same.

    Each conversation goes through them alone, so its states are the same bits whatever batch it comes in and whether
    they are kept or computed again: a run that was interrupted ends as one that was not. Later passes begin at the
    first trained layer.
    """

    def __init__(self, model: Any, depth: int, budget: int) -> None:
        self.body = backbone(model)
        self.path = layers_path(self.body)
        self.layers: Any = self.body.get_submodule(self.path)
        self.depth, self.budget = depth, budget
        self.kept: dict[bytes, Tensor] = {}
        self.used = 0

    def __call__(self, input_ids: Tensor, **given: Tensor) -> Tensor:
        """Return the last hidden states, shape (rows, T, hidden), for a batch made by one of the collate functions."""
        states: Tensor | None = None
        for line, start, end in _conversations(input_ids, **given):
            found = self._states(input_ids[line, start:end])
            if states is None:
                states = found.new_zeros((*input_ids.shape, found.shape[-1]))
            states[line, start:end] = found
        if states is None:
            raise ValueError("an empty batch")
        with self._without_bottom():
            last: Tensor = self.body(inputs_embeds=states, use_cache=False, **given).last_hidden_state
            return last

    def _states(self, ids: Tensor) -> Tensor:
        key = ids.cpu().numpy().tobytes()
        found = self.kept.get(key)
        if found is None:
            found = self._compute(ids)
            size = found.numel() * found.element_size()
            if self.used + size <= self.budget:
                self.kept[key] = found
                self.used += size
        return found

    def _compute(self, ids: Tensor) -> Tensor:
        """Run one conversation up to the first trained layer; shape (T, hidden)."""
        reached: list[Tensor] = []

        def stop(_layer: nn.Module, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
            reached.append(arguments[0] if arguments else named["hidden_states"])
            raise _ReachedError

        handle = self.layers[self.depth].register_forward_pre_hook(stop, with_kwargs=True)
        try:
            with torch.no_grad():
                self.body(input_ids=ids[None], use_cache=False)
        except _ReachedError:
            pass
        finally:
            handle.remove()
        return reached[0][0].detach()

    @contextmanager
    def _without_bottom(self) -> Iterator[None]:
        set_layers(self.body, self.path, nn.ModuleList(self.layers[self.depth :]))
        try:
            yield
        finally:
            set_layers(self.body, self.path, self.layers)


def first_trained_layer(model: Any) -> int:
    """Return the number of the lowest layer that has trained weights; 0 when anything below the layers is trained."""
    name = layers_path(backbone(model)) + "."
    lowest: int | None = None
    for full, weight in backbone(model).named_parameters():
        if not weight.requires_grad:
            continue
        if not full.startswith(name):
            return 0
        number = int(full.removeprefix(name).partition(".")[0])
        lowest = number if lowest is None else min(lowest, number)
    return lowest or 0


def keep_frozen(model: Any, budget: int) -> FrozenBottom | None:
    """Return the frozen bottom of a model, or None where the states cannot be kept: found out by trying."""
    try:
        depth = first_trained_layer(model)
        if depth == 0 or _mixes_layers(model):
            return None
        bottom = FrozenBottom(model, depth, 0)
        ids = torch.arange(3, 12, device=model.device)[None] % model.get_input_embeddings().weight.shape[0]
        training = bottom.body.training
        bottom.body.train(False)
        with torch.no_grad():
            whole = bottom.body(input_ids=ids, use_cache=False).last_hidden_state
            short = bottom(ids, attention_mask=torch.ones_like(ids))
            bottom.body.train(True)
            drawn = [bottom._compute(ids[0]) for _twice in range(2)]
        bottom.body.train(training)
    except (AttributeError, LookupError, ModelError, TypeError, ValueError):
        return None
    near = 1e-5 if whole.dtype == torch.float32 else 5e-2
    if not torch.equal(*drawn):  # dropout below the first trained layer
        return None
    if not torch.allclose(whole.float(), short.float(), rtol=near, atol=near):
        return None
    bottom.budget = budget
    return bottom


def _mixes_layers(model: Any) -> bool:
    """Tell whether the layers differ in kind, so that leaving some out would change what the others are taken for."""
    kinds = getattr(model.config.get_text_config(), "layer_types", None)
    return kinds is not None and len(set(kinds)) > 1


def _conversations(
    input_ids: Tensor, attention_mask: Tensor | None = None, position_ids: Tensor | None = None
) -> Iterator[tuple[int, int, int]]:
    """Yield line, start and end of each conversation in a batch; padding belongs to none."""
    for line in range(input_ids.shape[0]):
        if position_ids is None:
            assert attention_mask is not None
            yield line, 0, int(attention_mask[line].sum())
            continue
        starts = [*(position_ids[line] == 0).nonzero().flatten().tolist(), input_ids.shape[1]]
        for start, end in itertools.pairwise(starts):
            if end - start > 1:  # each padding token is a conversation of its own
                yield line, start, end
