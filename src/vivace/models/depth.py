"""The list of layers in a model that torch has opened, and the model with some of them alone."""

from collections.abc import Sequence
from typing import Any

from vivace.errors import ModelError


def layers_path(model: Any) -> str:
    """Return the dotted path from `model` to its list of layers, the one as long as its configuration says.

    Raises `ModelError` for a model without such a list.
    """
    from torch import nn

    wanted = model.config.get_text_config().num_hidden_layers
    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == wanted:
            return str(path)
    raise ModelError(f"A {type(model).__name__} has no list of layers.", "Take a decoder such as Llama or Qwen.")


def set_layers(model: Any, path: str, layers: Any) -> None:
    """Put another list of layers where `layers_path` found one."""
    owner, _, name = path.rpartition(".")
    model.get_submodule(owner)._modules[name] = layers


def keep_layers(model: Any, kept: Sequence[int]) -> None:
    """Leave the layers `kept` (rising numbers from 0) in a model, and what its configuration says of them.

    Raises `ModelError` for an empty or unordered list, one with unknown layers, and a model without a list of layers.
    """
    from torch import nn

    path = layers_path(model)
    layers = list(model.get_submodule(path))
    count = len(layers)
    if not kept or list(kept) != sorted(set(kept)) or not set(kept) <= set(range(count)):
        raise ModelError(
            f"Layers {list(kept)} cannot be kept of {count}.", f"Give numbers from 0 to {count - 1}, in order."
        )
    text = model.config.get_text_config()
    for config in {id(found): found for found in (text, model.config)}.values():
        for name, value in vars(config).copy().items():
            per_layer = isinstance(value, list) and len(value) == count and not name.startswith("_")
            if per_layer and name != "architectures" and not name.endswith("token_id"):
                setattr(config, name, [value[layer] for layer in kept])
        if getattr(config, "max_window_layers", None) is not None:  # layers from this number on look through a window
            config.max_window_layers = sum(layer < config.max_window_layers for layer in kept)
    text.num_hidden_layers = len(kept)
    set_layers(model, path, nn.ModuleList(layers[layer] for layer in kept))
    for number, layer in enumerate(model.get_submodule(path)):
        for part in layer.modules():
            if isinstance(getattr(part, "layer_idx", None), int):
                vars(part)["layer_idx"] = number
