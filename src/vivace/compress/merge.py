"""Fold an adapter into the model it belongs to."""

from pathlib import Path
from typing import Any

from vivace.compress.folder import furnish, read_config, whole_folder
from vivace.domain import Model
from vivace.errors import ModelError
from vivace.models import identify, load_with_adapter


def merge(model: Model, out: Path) -> Model:
    """Write base plus adapter as one Hugging Face folder in float32; a model without adapter is returned as it is.

    The merged weights answer as base and adapter together do (logits within 1e-4): W + (alpha / r) B A per layer,
    Hu et al. 2021, https://arxiv.org/abs/2106.09685; DoRA, rsLoRA and (IA)3 likewise. Raises `ModelError` when either
    cannot be opened, the adapter is no change of weights, or the sum holds numbers that are not finite.
    """
    if model.format == "hf":
        return model
    if model.format != "adapter":
        raise ModelError(f"{model.name} is in format {model.format!r}; an adapter or a Hugging Face model is merged.")
    parent = model.base or identify(model.path).base
    if parent is None:
        raise ModelError(f"The adapter {model.path} does not say which model it belongs to.")
    merged = _fold(model, parent)
    with whole_folder(out) as aside:
        merged.save_pretrained(aside, safe_serialization=True)
        for path in aside.glob("*.safetensors"):
            path.chmod(0o644)
        furnish(aside, parent, read_config(aside))
    return Model(model.name, out.absolute(), "hf", "fp32", license=model.license)


def _fold(model: Model, parent: Path) -> Any:
    combined = load_with_adapter(model.path, parent)
    if combined.active_peft_config.is_prompt_learning:
        raise ModelError(
            f"The adapter {model.path} holds learned tokens (prompt tuning), which cannot be merged into weights.",
            'Train with method = "lora" or another that changes weights.',
        )
    try:
        return combined.merge_and_unload(safe_merge=True)
    except ValueError as error:  # PEFT found numbers that are not finite
        reason = str(error).splitlines()[0].rstrip(".")
        raise ModelError(f"The adapter {model.path} cannot be merged: {reason}.", "Train it again.") from error
