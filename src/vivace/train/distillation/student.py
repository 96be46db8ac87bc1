"""A student cut from a model: some of its layers, everything else as it was."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vivace.errors import ModelError
from vivace.models import load_causal_lm, save_model

PER_LAYER = ("layer_types", "layers_block_type", "no_rope_layers", "attention_layers", "block_types")
"""Lists in `config.json` that say something of each layer."""


def even_layers(count: int, share: float) -> tuple[int, ...]:
    """Return which of `count` layers make up a share of them: evenly spread, the first and the last included.

    DistilBERT starts so from every other layer (Sanh et al. 2019, https://arxiv.org/abs/1910.01108).
    """
    wanted = max(min(count, 2), round(share * count))
    if wanted >= count:
        return tuple(range(count))
    return tuple(round(place * (count - 1) / (wanted - 1)) for place in range(wanted))


def layer_count(folder: Path) -> int:
    """Return how many layers a model folder has."""
    from transformers import AutoConfig

    config: Any = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    return int(config.get_text_config().num_hidden_layers)


def cut_layers(model_folder: Path, keep: Sequence[int], out: Path) -> Path:
    """Write the model with the layers `keep` alone (rising numbers from 0) as a Hugging Face folder, and return it.

    Weights are copied, tied embeddings stay tied. Raises `ModelError` for layers that are not there, and for models
    whose layers cannot be found.
    """
    from torch import nn

    model = load_causal_lm(model_folder)
    config: Any = model.config.get_text_config()
    count = int(config.num_hidden_layers)
    if not keep or list(keep) != sorted(set(keep)) or not 0 <= keep[0] <= keep[-1] < count:
        raise ModelError(f"{model_folder.name} has layers 0 to {count - 1}; {list(keep)} cannot be kept of them.")
    owner, name = _layer_list(model, count)
    setattr(owner, name, nn.ModuleList([getattr(owner, name)[place] for place in keep]))
    for told in {id(found): found for found in (config, model.config)}.values():
        for listed in PER_LAYER:
            values = getattr(told, listed, None)
            if isinstance(values, list) and len(values) == count:
                setattr(told, listed, [values[place] for place in keep])
    config.num_hidden_layers = len(keep)
    return save_model(model, model_folder, out)


def _layer_list(model: Any, count: int) -> tuple[Any, str]:
    """Return the module that owns the list of layers, and its name there."""
    from torch import nn

    for path, module in model.named_modules():
        if isinstance(module, nn.ModuleList) and len(module) == count:
            owner, _, name = path.rpartition(".")
            return model.get_submodule(owner), name
    raise ModelError(f"A {type(model).__name__} has no list of layers that some could be taken from.")
