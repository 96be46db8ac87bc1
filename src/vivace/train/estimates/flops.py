"""What a training step costs in floating-point operations, counted from the model's shapes without its weights."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from vivace.config.train import TrainSettings
from vivace.domain import Model
from vivace.errors import VivaceError

_PROBE_TOKENS = 8
_ATTENTION_OUT = ("o_proj", "o_proj.base_layer")


class Shape(Struct, frozen=True):
    """One forward pass: `rows` of `length` tokens, padding included, of which `learned` are in the loss."""

    rows: int
    length: int
    learned: int


class Work(Struct, frozen=True):
    """Operations (a multiply-add is two) of one model with one choice of trained weights.

    The backward pass costs a layer as much as the forward pass for the gradient that goes on to what is below, and as
    much again for that of its weights; frozen weights have no such gradient, and nothing goes below the lowest trained
    one. Attention counts per pair of tokens of a row, the head per learned token. Norms, activations and the optimizer
    are not counted, nor is what is computed twice on purpose, as usual for a utilization (Chowdhery et al. 2022,
    appendix B, https://arxiv.org/abs/2204.02311).
    """

    forward_per_token: int
    backward_per_token: int
    forward_per_pair: int
    backward_per_pair: int
    forward_per_learned: int
    backward_per_learned: int
    per_batch: int
    parameters: int
    trained: int
    virtual_tokens: int = 0

    def layers(self, shape: Shape, *, backward: bool = True) -> int:
        """Return the operations of all layers on one batch."""
        length = shape.length + self.virtual_tokens
        tokens, pairs = shape.rows * length, shape.rows * length * length
        total = self.forward_per_token * tokens + self.forward_per_pair * pairs
        if backward:
            total += self.backward_per_token * tokens + self.backward_per_pair * pairs
        return total + self.per_batch

    def head(self, shape: Shape, *, backward: bool = True) -> int:
        """Return the operations of the vocabulary's projection on one batch."""
        each = self.forward_per_learned + (self.backward_per_learned if backward else 0)
        return each * shape.learned

    def total(self, shapes: Iterable[Shape], *, backward: bool = True) -> int:
        """Return the operations of many batches."""
        return sum(self.layers(shape, backward=backward) + self.head(shape, backward=backward) for shape in shapes)


def skeleton(base: Model, settings: TrainSettings) -> Any:
    """Return the model to train without its weights (on torch's meta device), what is trained marked as such.

    Raises what `prepare_weights` raises for settings that do not fit the model; None for a configuration that
    transformers cannot build by itself.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from vivace.train.adapters import prepare_weights

    try:
        config = AutoConfig.from_pretrained(base.path, local_files_only=True, trust_remote_code=False)
        with torch.device("meta"):
            make: Any = AutoModelForCausalLM
            model = make.from_config(config, attn_implementation="sdpa")
    except Exception:  # the loading that follows says what is wrong with the folder
        return None
    # The 4-bit base of qlora multiplies matrices of the same shapes.
    plain = settings.model_copy(update={"method": "lora"}) if settings.method == "qlora" else settings
    try:
        return prepare_weights(model, base, plain)
    except VivaceError:
        raise
    except Exception:  # an adapter that cannot be made without weights
        return None


def work_of(model: Any, settings: TrainSettings) -> Work:
    """Return what the steps of a model cost, from `skeleton` or a loaded one."""
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    head = inner.get_output_embeddings()
    needs_gradient = _input_gradients(inner, settings)
    forward = backward = 0
    for name, module in inner.named_modules():
        if module is head or not isinstance(module, (nn.Linear, Conv1D)):
            continue
        size = 2 * int(module.weight.numel())
        forward += size
        backward += size * (needs_gradient(name) + bool(module.weight.requires_grad))
    layers, lowest = _layers(inner, settings)
    pair = _pair_operations(inner.config.get_text_config())
    projection = 0 if head is None else 2 * int(head.weight.numel())
    trains_head = head is not None and bool(head.weight.requires_grad)
    # In the lowest layer, attention has a backward pass only where something before it is trained.
    outputs = [
        name for name, _ in inner.named_modules() if _layer_number(name) == lowest and name.endswith(_ATTENTION_OUT)
    ]
    reached = layers - lowest - (bool(outputs) and not any(map(needs_gradient, outputs)))
    recomputed = (forward * (layers - lowest)) // max(1, layers) if settings.gradient_checkpointing else 0
    return Work(
        forward_per_token=forward,
        backward_per_token=backward + recomputed,
        forward_per_pair=layers * pair,
        backward_per_pair=(2 + settings.gradient_checkpointing) * reached * pair,
        forward_per_learned=projection,
        backward_per_learned=projection * (1 + trains_head),
        per_batch=_norm_operations(inner),
        parameters=sum(int(p.numel()) for p in model.parameters()),
        trained=sum(int(p.numel()) for p in model.parameters() if p.requires_grad),
        virtual_tokens=settings.num_virtual_tokens if settings.method == "prompt_tuning" else 0,
    )


def _input_gradients(inner: Any, settings: TrainSettings) -> Any:
    """Return a function that tells whether a linear layer's gradient goes on to its input, found out by trying.

    The model runs once without numbers, on torch's meta device, and each layer notes whether what it reads depends on
    a trained weight.
    """
    import torch

    _count, lowest = _layers(inner, settings)
    seen: dict[str, bool] = {}

    def note(name: str) -> Any:
        return lambda _module, given: seen.__setitem__(name, bool(given[0].requires_grad)) if given else None

    hooks = [
        module.register_forward_pre_hook(note(name)) for name, module in inner.named_modules() if _is_linear(module)
    ]
    size = int(inner.config.get_text_config().hidden_size)
    device = inner.get_input_embeddings().weight.device
    ids = torch.zeros((1, _PROBE_TOKENS), dtype=torch.long, device=device)
    given: dict[str, Any] = {"input_ids": ids}
    if settings.method == "prompt_tuning":
        given = {"inputs_embeds": torch.zeros((1, _PROBE_TOKENS, size), device=device, requires_grad=True)}
    # A mask of four dimensions is passed through as it is: no code looks at numbers, of which there are none.
    mask = torch.zeros((1, 1, _PROBE_TOKENS, _PROBE_TOKENS), device=device)
    try:
        inner.base_model(**given, attention_mask=mask, position_ids=ids, use_cache=False)
    except Exception:  # a family whose code looks at numbers all the same
        seen.clear()
    finally:
        for hook in hooks:
            hook.remove()

    def known(name: str) -> bool:
        if seen:
            return seen.get(name, False)
        number = _layer_number(name)
        return number is None or number >= lowest

    return known


def _is_linear(module: Any) -> bool:
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    return isinstance(module, (nn.Linear, Conv1D))


def _layers(inner: Any, settings: TrainSettings) -> tuple[int, int]:
    """Return how many layers there are, and the lowest one that the gradient reaches."""
    count = int(inner.config.get_text_config().num_hidden_layers)
    if settings.method == "prompt_tuning":
        return count, 0
    trained = [name for name, weight in inner.named_parameters() if weight.requires_grad]
    numbers = [_layer_number(name) for name in trained]
    inside = [number for number in numbers if number is not None]
    if any(part in name for name in trained for part in ("embed_tokens", "wte", "wpe")):
        return count, 0
    return count, min(inside, default=count)


def _layer_number(name: str) -> int | None:
    return next((int(part) for part in name.split(".") if part.isdigit()), None)


def _pair_operations(config: Any) -> int:
    """Return the operations of one layer's attention on one pair of tokens: scores, and the weighted sum of values."""
    heads = int(config.num_attention_heads)
    width = getattr(config, "head_dim", None) or config.hidden_size // heads
    return 4 * heads * int(width)


def _norm_operations(inner: Any) -> int:
    """Return what DoRA's norms cost: each adapted layer multiplies its two small matrices once a batch."""
    total = 0
    for module in inner.modules():
        if getattr(module, "lora_magnitude_vector", None):
            for name in module.lora_magnitude_vector:
                a, b = module.lora_A[name].weight, module.lora_B[name].weight
                # PEFT sends the identity, (in, in), through both.
                total += 2 * int(a.shape[1]) * (int(a.numel()) + int(b.numel()))
    return total
