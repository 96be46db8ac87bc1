"""The six forms a trained model takes on its way to the user, made from a family's tiny folder."""

import shutil
from pathlib import Path

from vivace.compress import export, merge
from vivace.domain import Model, SilentProgress
from vivace.models import identify

FORMS = {
    "adapter": "",
    "merged": "",
    "int8": "openvino-int8",
    "int4": "openvino-int4",
    "GGUF": "gguf-q8_0",
    "ONNX": "onnx-int4",
}


def make_adapter(base: Path, out: Path) -> Model:
    """Write an adapter on every linear layer that changes what the model says, with the tokenizer beside it."""
    import torch
    from peft import LoraConfig, get_peft_model

    from vivace.models import copy_tokenizer, load_causal_lm

    torch.manual_seed(3)
    settings = LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(load_causal_lm(base), settings).save_pretrained(str(out))
    copy_tokenizer(base, out)
    shutil.copy(base / "config.json", out)
    return Model("tuned", out, "adapter", "fp32", base=base)


def make_form(form: str, base: Path, place: Path) -> Model:
    """Return a family's model in one form, made below `place` if it is not there."""
    adapter = place / "adapter"
    tuned = Model("tuned", adapter, "adapter", "fp32", base=base) if adapter.is_dir() else make_adapter(base, adapter)
    if form == "adapter":
        return tuned
    merged = place / "merged"
    model = Model("tuned", merged, "hf", "fp32") if merged.is_dir() else merge(tuned, merged)
    if form == "merged":
        return model
    out = place / FORMS[form]
    return identify(out) if out.is_dir() else export(model, FORMS[form], out, SilentProgress())
