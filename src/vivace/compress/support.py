"""Which models can be exported, and the reason when one cannot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vivace.domain import Model
from vivace.errors import ModelError

# Architectures whose exports are compared with transformers in tests/compress/test_architectures.py.
ARCHITECTURES = (
    "LlamaForCausalLM",
    "MistralForCausalLM",
    "Qwen2ForCausalLM",
    "Qwen3ForCausalLM",
)
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
# The frequencies of these depend on the length of each request, which a graph drawn once does not follow.
_LENGTH_DEPENDENT_ROPE = ("dynamic", "longrope")


def check_exportable(model: Model, config: Mapping[str, Any]) -> None:
    """Raise `ModelError` with the reason when `model`, whose configuration is `config`, cannot be exported."""
    if model.format != "hf":
        hint = "Merge it first." if model.format == "adapter" else ""
        raise ModelError(f"{model.name} is in format {model.format!r}; only Hugging Face models are exported.", hint)
    reason = _why_not(config)
    if reason:
        raise ModelError(
            f"{model.name} cannot be exported: {reason}.",
            "Serve it with the transformers engine, or choose another model.",
        )


def check_traced(path: Path, config: Mapping[str, Any]) -> None:
    """Raise `ModelError` when a loaded configuration, defaults filled in, is one that cannot be exported."""
    check_exportable(Model(name=path.name, path=path, format="hf", weights=""), config)


def _why_not(config: Mapping[str, Any]) -> str:
    named = config.get("architectures")
    architecture = str(named[0]) if isinstance(named, list) and named else "unknown"
    quantized = config.get("quantization_config")
    if config.get("is_encoder_decoder"):
        return f"{architecture} is an encoder-decoder, and only decoders are exported"
    if quantized:
        method = quantized.get("quant_method", "unknown") if isinstance(quantized, Mapping) else quantized
        return f"its weights are already quantized ({method})"
    experts = next((key for key in _EXPERTS if (config.get(key) or 0) > 1), None)
    if experts is not None:
        return f"it is a mixture of {config[experts]} experts ({experts})"
    if architecture not in ARCHITECTURES:
        return f"its architecture {architecture} is not among {', '.join(ARCHITECTURES)}"
    return _why_not_attention(config)


def _why_not_attention(config: Mapping[str, Any]) -> str:
    kinds = set(config.get("layer_types") or ["full_attention"])
    if kinds != {"full_attention"}:
        return f"its layers attend by {', '.join(sorted(map(str, kinds - {'full_attention'})))}"
    if config.get("sliding_window") and config.get("use_sliding_window", True):
        return f"its attention slides over a window of {config['sliding_window']} tokens"
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    kind = rope.get("rope_type", rope.get("type")) if isinstance(rope, Mapping) else None
    if kind in _LENGTH_DEPENDENT_ROPE:
        return f"its rotary embedding ({kind}) changes with the length of a request"
    return ""
