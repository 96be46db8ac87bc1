"""Open and save models with torch; the only module of this room that imports it, and only when used."""

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace.errors import ModelError
from vivace.models.identify import check_data_only, fits, identify
from vivace.models.tokenizer import read_json
from vivace.store.files import disk_errors, sync_folder, sync_tree, write_atomic

if TYPE_CHECKING:
    from transformers import PreTrainedModel

# fmt: off
TOKENIZER_FILES = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "merges.txt", "tokenizer.model", "chat_template.jinja", "LICENSE", "LICENSE.txt", "LICENSE.md", "NOTICE",
)
# fmt: on


def load_causal_lm(folder: Path, dtype: str = "float32") -> "PreTrainedModel":
    """Load a Hugging Face folder for training or inference on this machine; `dtype` is a torch type's name.

    Raises `ModelError` for a folder that holds more than data or cannot be read, `ResourceError` when it cannot fit.
    """
    check_data_only(folder)
    model = identify(folder)
    if model.format != "hf":
        raise ModelError(f"{folder} is a model in format {model.format!r}; torch opens Hugging Face folders.")
    fits(model)
    import torch
    from transformers import AutoModelForCausalLM

    try:
        loaded: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            attn_implementation="sdpa",
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except Exception as error:  # whatever transformers makes of a wrong configuration
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"The model in {folder} cannot be opened: {reason}.") from error
    loaded.train(False)
    return loaded


def load_with_adapter(adapter: Path, parent: Path | None = None, *, dtype: str = "float32") -> Any:
    """Load an adapter folder on its model (`parent`, else the folder it names) and return the PEFT model."""
    check_data_only(adapter)
    model = identify(adapter)
    if model.format != "adapter":
        raise ModelError(f"{adapter} holds no adapter_config.json.")
    under = parent or model.base
    if under is None:
        named = read_json(adapter / "adapter_config.json").get("base_model_name_or_path")
        raise ModelError(f"The adapter {adapter} belongs to {named!r}, which is not here.")
    loaded = load_causal_lm(under, dtype)
    from peft import PeftModel

    combined = PeftModel.from_pretrained(loaded, str(adapter), is_trainable=False, local_files_only=True)
    combined.train(False)
    return combined


def save_model(model: "PreTrainedModel", tokenizer_source: Path, out: Path) -> Path:
    """Write `model` as a Hugging Face folder that is whole or absent: safetensors, configuration, tokenizer as it was.

    The generation settings and every tokenizer file come verbatim from `tokenizer_source`.
    """
    aside = out.with_name(f".{out.name}.partial")
    with disk_errors(out):
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
        try:
            model.save_pretrained(aside, safe_serialization=True)
            for path in aside.glob("*.safetensors"):
                path.chmod(0o644)
            copy_tokenizer(tokenizer_source, aside)
            check_data_only(aside)
            sync_tree(aside)
            if out.is_dir():
                shutil.rmtree(out)
            os.replace(aside, out)
            sync_folder(out.parent)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return out


def copy_tokenizer(source: Path, out: Path) -> None:
    """Copy tokenizer, chat template, licence and generation settings verbatim from one model folder into another."""
    if not (source / "tokenizer.json").is_file():
        raise ModelError(f"{source} has no tokenizer.json.")
    for name in (*TOKENIZER_FILES, "generation_config.json"):
        if (source / name).is_file():
            write_atomic(out / name, (source / name).read_bytes())
