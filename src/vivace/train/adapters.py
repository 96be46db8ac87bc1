"""Which weights are trained, and the folder that holds the result."""

import json
from pathlib import Path
from typing import Any

from torch import nn

from vivace.config.train import TrainSettings
from vivace.domain import Model
from vivace.errors import ConfigError, ModelError
from vivace.models import copy_tokenizer, save_model
from vivace.registry import nearest
from vivace.store.files import sync_tree, write_atomic

ADAPTER = "default"


def prepare_weights(model: Any, base: Model, settings: TrainSettings) -> Any:
    """Return the model to train: with adapters in the chosen layers, or with its own weights freed."""
    if settings.method == "full":
        model.requires_grad_(True)
        return model
    from peft import LoraConfig, get_peft_model

    pattern, count = _layer_list(model)
    top = list(range(count - max(1, round(settings.lora_layers_fraction * count)), count))
    everywhere = len(top) == count
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=_targets(model, settings.lora_target_modules, pattern),
        layers_to_transform=None if everywhere else top,
        layers_pattern=None if everywhere else pattern,
    )
    tuned = get_peft_model(model, config)
    # PEFT notes where the base was loaded from; a path of this machine means nothing elsewhere.
    tuned.peft_config[ADAPTER].base_model_name_or_path = base.name
    tuned.peft_config[ADAPTER].revision = None
    return tuned


def depth(settings: TrainSettings) -> float:
    """Return the share of the layers that gradients pass through."""
    return 1.0 if settings.method == "full" else settings.lora_layers_fraction


def write_model(model: Any, base: Model, settings: TrainSettings, out: Path) -> None:
    """Write a PEFT adapter folder, or a full Hugging Face folder, with the base's tokenizer and template."""
    if settings.method == "full":
        save_model(model, base.path, out)
        return
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    out.mkdir(parents=True, exist_ok=True)
    weights = get_peft_model_state_dict(model, save_embedding_layers=False)
    weights = {name: weights[name].detach().cpu().contiguous() for name in sorted(weights)}
    save_file(weights, str(out / "adapter_model.safetensors"), metadata={"format": "pt"})
    (out / "adapter_model.safetensors").chmod(0o644)
    config = model.peft_config[ADAPTER].to_dict() | {"inference_mode": True}
    write_atomic(out / "adapter_config.json", json.dumps(config, indent=2, sort_keys=True, default=_plain) + "\n")
    copy_tokenizer(base.path, out)
    sync_tree(out)


def _plain(value: Any) -> Any:
    # PEFT keeps names in sets, whose order changes from run to run, and some settings as enums.
    return sorted(value) if isinstance(value, (set, frozenset)) else getattr(value, "value", str(value))


def _layer_list(model: Any) -> tuple[str, int]:
    """Return the name of the list of layers and its length."""
    lists = {name: len(module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)}
    wanted = model.config.get_text_config().num_hidden_layers
    name = next((name for name, length in lists.items() if length == wanted), None)
    if name is None:
        raise ModelError(f"A {type(model).__name__} has no list of layers that adapters could go into.")
    return name.rpartition(".")[2], wanted


def _targets(model: Any, wanted: str | list[str], pattern: str) -> list[str]:
    """Return the last names of the linear layers inside the blocks that get adapters."""
    from transformers.pytorch_utils import Conv1D  # GPT-2's linear layers

    names = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, Conv1D)) and f".{pattern}." in f".{name}"
    }
    if wanted == "all-linear":
        return sorted(names)
    chosen = [wanted] if isinstance(wanted, str) else wanted
    for name in chosen:
        if name not in names:
            raise ConfigError(
                f"lora_target_modules names {name!r}, which is no linear layer of this model.",
                nearest(name, [*names, "all-linear"]),
            )
    return sorted(set(chosen))
