"""Open an encoder with a fresh head, free the weights that learn, and write what came of it."""

import shutil
from pathlib import Path
from typing import Any

from vivace.config.intent import EncoderSettings
from vivace.domain import Model
from vivace.errors import ModelError
from vivace.models import check_data_only, copy_tokenizer, fits
from vivace.models.encoders.graph import write_graph
from vivace.models.tokenizer import read_json
from vivace.store.files import sync_tree


def open_classifier(encoder: Model, labels: list[str], settings: EncoderSettings, on: str) -> Any:
    """Load an encoder with a head of so many labels; layers named by `freeze_layers_fraction` do not learn.

    Raises `ModelError` for a model that is no encoder or holds more than data, `ResourceError` when it does not fit.
    """
    import torch
    from transformers import AutoModelForSequenceClassification, set_seed

    check_encoder(encoder)
    check_data_only(encoder.path)
    fits(encoder)
    set_seed(settings.seed)
    try:
        model: Any = AutoModelForSequenceClassification.from_pretrained(
            encoder.path,
            num_labels=len(labels),
            id2label=dict(enumerate(labels)),
            label2id={label: number for number, label in enumerate(labels)},
            # A folder may come with the head of another task.
            ignore_mismatched_sizes=True,
            attn_implementation="sdpa",
            dtype=torch.float32,
            local_files_only=True,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except Exception as error:  # whatever transformers makes of a wrong configuration
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
        raise ModelError(f"The encoder in {encoder.path} cannot be opened: {reason}.") from error
    freeze(model, settings.freeze_layers_fraction)
    return model.to(on)


def open_frozen(encoder: Model, on: str) -> Any:
    """Load an encoder without a head, as it came."""
    import torch
    from transformers import AutoModel

    check_data_only(encoder.path)
    model: Any = AutoModel.from_pretrained(
        encoder.path,
        attn_implementation="sdpa",
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    model.train(False)
    return model.to(on)


def check_encoder(encoder: Model) -> None:
    """Raise `ModelError` unless a folder holds a BERT-like encoder, told by its configuration alone."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    )

    hint = "Name an encoder such as all-minilm-l6-v2, distilbert/distilbert-base-uncased or FacebookAI/roberta-base."
    if encoder.format != "hf":
        raise ModelError(f"{encoder.name} is in format {encoder.format!r}; an encoder is a Hugging Face folder.", hint)
    config = read_json(encoder.path / "config.json")
    kind = str(config.get("model_type"))
    # Whatever can guess masked words reads a text from both sides.
    masked, classifies = MODEL_FOR_MASKED_LM_MAPPING_NAMES, MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    if kind not in masked or kind not in classifies or config.get("is_encoder_decoder") or config.get("is_decoder"):
        names = config.get("architectures") or [kind]
        raise ModelError(f"{encoder.name} is a {names[0]}, which is no encoder.", hint)


def freeze(model: Any, fraction: float) -> None:
    """Keep the embeddings and the lowest `fraction` of the layers as they are; 0 freezes nothing."""
    from torch.nn import ModuleList

    if not fraction:
        return
    inner = model.base_model
    inner.get_input_embeddings().weight.requires_grad_(False)
    if hasattr(inner, "embeddings"):
        inner.embeddings.requires_grad_(False)
    layers = max((part for part in inner.modules() if isinstance(part, ModuleList)), key=len, default=ModuleList())
    for layer in layers[: round(fraction * len(layers))]:
        layer.requires_grad_(False)


def write_classifier(model: Any, encoder: Model, out: Path) -> None:
    """Write a Hugging Face folder with the encoder's own tokenizer, and its OpenVINO graph for serving."""
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    model.save_pretrained(out, safe_serialization=True)
    for path in out.glob("*.safetensors"):
        path.chmod(0o644)
    copy_tokenizer(encoder.path, out)
    for name in ("vocab.txt", "sentencepiece.bpe.model", "spiece.model"):
        if (encoder.path / name).is_file():
            shutil.copyfile(encoder.path / name, out / name)
    write_graph(out)
    check_data_only(out)
    sync_tree(out)
