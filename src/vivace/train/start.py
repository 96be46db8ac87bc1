"""Training goes on from weights that were tuned before: whether they fit the settings, and how they are loaded."""

import json
from pathlib import Path
from typing import Any

from vivace.config.train import TrainSettings
from vivace.errors import ConfigError, ModelError
from vivace.models import check_data_only

SAME_WEIGHTS = {"qlora": "lora"}
"""Methods whose adapters are those of another one."""
SHAPES = {"r": "lora_r", "lora_alpha": "lora_alpha", "num_virtual_tokens": "num_virtual_tokens"}
AFRESH = "Set it as it was then, or train afresh without --from."


def check_start(start: Path, settings: TrainSettings) -> None:
    """Raise `ConfigError` where the folder of a tuned model holds other weights than the settings train."""
    config = _adapter_config(start)
    then = "full" if config is None else _method(config)
    now = SAME_WEIGHTS.get(settings.method, settings.method)
    if now != then:
        raise ConfigError(
            f"method in [train] is {settings.method!r}, but the model to go on from was trained with {then!r}.", AFRESH
        )
    for key, name in SHAPES.items():
        value = (config or {}).get(key)
        if value is not None and value != getattr(settings, name):
            raise ConfigError(
                f"{name} in [train] is {getattr(settings, name)!r}, but the model to go on from has {value!r}.", AFRESH
            )


def load_start(tuned: Any, start: Path, adapter: str) -> None:
    """Put the adapter weights in `start` into a freshly made PEFT model.

    Raises `ConfigError` where they belong to other layers than the settings chose.
    """
    from peft import get_peft_model_state_dict, set_peft_model_state_dict
    from safetensors.torch import load_file

    check_data_only(start)
    weights = load_file(str(start / "adapter_model.safetensors"))
    wanted = get_peft_model_state_dict(tuned, adapter_name=adapter, save_embedding_layers=False)
    if wanted.keys() != weights.keys():
        odd = sorted(wanted.keys() ^ weights.keys())[0]
        raise ConfigError(
            f"The model to go on from has adapters in other layers than [train] names ({odd}).",
            "Set lora_target_modules and lora_layers_fraction as they were then, or train afresh without --from.",
        )
    for name, tensor in wanted.items():
        if tensor.shape != weights[name].shape:
            raise ModelError(f"The weights to go on from do not fit this base: {name} has another shape.")
    set_peft_model_state_dict(tuned, weights, adapter_name=adapter)


def _adapter_config(start: Path) -> dict[str, Any] | None:
    path = start / "adapter_config.json"
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        return found
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read.") from error


def _method(config: dict[str, Any]) -> str:
    kind = str(config.get("peft_type", "")).lower()
    if kind != "lora":
        return kind
    return "dora" if config.get("use_dora") else "rslora" if config.get("use_rslora") else "lora"
