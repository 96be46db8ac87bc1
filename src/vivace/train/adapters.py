"""Which weights are trained, and the folder that holds the result."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import nn

from vivace.config.train import TrainSettings
from vivace.domain import Model
from vivace.errors import ConfigError, ModelError
from vivace.models import copy_tokenizer, save_model
from vivace.models.depth import layers_path
from vivace.registry import nearest
from vivace.store.files import sync_tree, write_atomic
from vivace.train.start import load_start

ADAPTER = "default"


def prepare_weights(model: Any, base: Model, settings: TrainSettings, start: Path | None = None) -> Any:
    """Return the model to train: with adapters in the chosen layers, or with its own weights freed.

    Adapters begin with the weights of the adapter folder `start`, if one is given.
    """
    if settings.method == "full":
        return _free(model, settings.freeze)
    if settings.freeze:
        raise ConfigError(
            f'freeze in [train] is for method = "full"; {settings.method} leaves all weights of the base as they are.',
            "Remove freeze.",
        )
    from peft import get_peft_model

    tuned = get_peft_model(model, _peft_config(model, settings))
    # PEFT notes where the base was loaded from; a path of this machine means nothing elsewhere.
    tuned.peft_config[ADAPTER].base_model_name_or_path = base.name
    tuned.peft_config[ADAPTER].revision = None
    if start is not None:
        load_start(tuned, start, ADAPTER)
    return tuned


def depth(settings: TrainSettings) -> float:
    """Return the share of the layers whose activations wait for the backward pass."""
    share = 1.0 if settings.method in ("full", "prompt_tuning") else settings.lora_layers_fraction
    # Checkpointing keeps what enters a layer, about a thirtieth of what the layer computes.
    return share / 30 if settings.gradient_checkpointing else share


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


def _peft_config(model: Any, settings: TrainSettings) -> Any:
    from peft import IA3Config, LoraConfig, PromptTuningConfig, PromptTuningInit

    if settings.method == "prompt_tuning":
        return PromptTuningConfig(
            task_type="CAUSAL_LM",
            num_virtual_tokens=settings.num_virtual_tokens,
            prompt_tuning_init=PromptTuningInit.SAMPLE_VOCAB,
        )
    path = layers_path(model)
    pattern, count = path.rpartition(".")[2], len(model.get_submodule(path))
    top = list(range(count - max(1, round(settings.lora_layers_fraction * count)), count))
    everywhere = len(top) == count
    if settings.method == "ia3":
        targets, feedforward = _rescaled(model, pattern, range(count) if everywhere else top)
        return IA3Config(task_type="CAUSAL_LM", target_modules=targets, feedforward_modules=feedforward)
    return LoraConfig(
        task_type="CAUSAL_LM",
        r=settings.lora_r,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=_targets(model, settings.lora_target_modules, pattern),
        layers_to_transform=None if everywhere else top,
        layers_pattern=None if everywhere else pattern,
        use_dora=settings.method == "dora",
        use_rslora=settings.method == "rslora",
    )


def _free(model: Any, freeze: list[str]) -> Any:
    """Train all weights but those whose names hold one of the parts in `freeze`; tied weights have two names."""
    weights = dict(model.named_parameters(remove_duplicate=False))
    for part in freeze:
        if not any(part in name for name in weights):
            paths = {".".join(name.split(".")[:end]) for name in weights for end in range(1, name.count(".") + 2)}
            words = {word for name in weights for word in name.split(".") if not word.isdigit()}
            raise ConfigError(f"freeze names {part!r}, which is in no weight of this model.", _like(part, paths, words))
    model.requires_grad_(True)
    for name, weight in weights.items():
        if any(part in name for part in freeze):
            weight.requires_grad_(False)
    if not any(weight.requires_grad for weight in weights.values()):
        raise ConfigError("freeze leaves no weight to train.", "Take names out of freeze in [train].")
    return model


def _like(part: str, paths: set[str], words: set[str]) -> str:
    """Return the hint for a name that is nowhere: the nearest one; all of them would be too many to list."""
    told = nearest(part.strip("."), sorted(paths | words))
    return told if told.startswith("Did") else nearest(part, sorted(words - {"weight", "bias"}))


def _rescaled(model: Any, pattern: str, layers: Iterable[int]) -> tuple[list[str], list[str]]:
    """Return the full names of the linear layers that (IA)3 rescales, and those among them in feed-forward blocks.

    Which ones those are is PEFT's knowledge of each family: https://arxiv.org/abs/2205.05638 rescales keys, values and
    the feed-forward activations.
    """
    from peft.utils import (
        TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING,
        TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING,
    )

    family = model.config.get_text_config().model_type
    ends = TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING.get(family)
    if ends is None:
        raise ModelError(f"ia3 does not know the layers of the family {family!r}.", 'Set method = "lora" in [train].')
    inner = TRANSFORMERS_MODELS_TO_IA3_FEEDFORWARD_MODULES_MAPPING[family]
    chosen = [
        name
        for name, _module in model.named_modules()
        if any(f".{pattern}.{layer}." in f".{name}." for layer in layers)
        and any(f".{name}".endswith(f".{end}") for end in ends)
    ]
    return chosen, [name for name in chosen if any(f".{name}".endswith(f".{end}") for end in inner)]


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
