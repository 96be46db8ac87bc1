"""How a Hugging Face model lies in a GGUF file: names of tensors, order of rows, settings of the architecture."""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.errors import ModelError

Weights = NDArray[np.float32]

# llama.cpp's word for each architecture, and the matrices its rotary embedding wants in another order of rows.
ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "llama",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
_PERMUTED = {"llama"}
_OUTER = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_TENSOR = re.compile(r"(?:model\.layers\.(\d+)\.)?([a-z_.]+)\.(weight|bias)")
# Where transformers' own default is not the usual one, a configuration has to say.
_NEEDED = (
    "hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads", "num_hidden_layers",
    "vocab_size",
)  # fmt: skip
_NEEDED_BY = {"qwen3": ("head_dim", "num_key_value_heads"), "qwen2": ("num_key_value_heads",), "llama": ()}
_ROPE_KINDS = ("default", "linear", "llama3")


def gguf_name(name: str) -> str:
    """Return what GGUF calls the tensor `name`; raises `ModelError` for one it has no name for."""
    match = _TENSOR.fullmatch(name)
    if match is not None:
        layer, module, part = match.groups()
        inner = _INNER.get(module) if layer is not None else _OUTER.get(module)
        if inner is not None:
            return f"blk.{layer}.{inner}.{part}" if layer is not None else f"{inner}.{part}"
    raise ModelError(f"The tensor {name!r} has no place in a GGUF file.", "Export the model to another format.")


def check_layout(config: Mapping[str, Any], name: str) -> str:
    """Return llama.cpp's word for the architecture; raises `ModelError` with the reason when GGUF cannot hold it."""
    named = (config.get("architectures") or ["unknown"])[0]
    hint = "Export it to another format."
    if named not in ARCHITECTURES:
        raise ModelError(f"{name} is a {named}; GGUF is written for {', '.join(ARCHITECTURES)}.", hint)
    kind = _rope(config).get("rope_type", "default")
    if kind not in _ROPE_KINDS:
        raise ModelError(f"{name} scales its rotary embedding by {kind!r}, which is not written to GGUF.", hint)
    if config.get("hidden_act", "silu") != "silu":
        raise ModelError(f"{name} uses the activation {config['hidden_act']!r}; llama.cpp computes silu.", hint)
    if _rope(config).get("partial_rotary_factor", 1.0) != 1.0:
        raise ModelError(f"{name} rotates a part of each head only, which is not written to GGUF.", hint)
    architecture = ARCHITECTURES[named]
    needed = (*_NEEDED, *_NEEDED_BY[architecture], *(("num_key_value_heads",) if named.startswith("Mistral") else ()))
    missing = [key for key in needed if not isinstance(config.get(key), int)]
    if missing:
        raise ModelError(f"The config.json of {name} does not say {', '.join(missing)}.", "Download it again.")
    return architecture


def settings(config: Mapping[str, Any]) -> dict[str, int | float | str]:
    """Return the settings of the architecture by GGUF's keys, without the architecture's prefix."""
    heads, width = int(config["num_attention_heads"]), head_width(config)
    rope = _rope(config)
    found: dict[str, int | float | str] = {
        "context_length": int(config["max_position_embeddings"]),
        "embedding_length": int(config["hidden_size"]),
        "block_count": int(config["num_hidden_layers"]),
        "feed_forward_length": int(config["intermediate_size"]),
        "attention.head_count": heads,
        "attention.head_count_kv": key_heads(config),
        "attention.key_length": width,
        "attention.value_length": width,
        "attention.layer_norm_rms_epsilon": float(config.get("rms_norm_eps", 1e-6)),
        "rope.dimension_count": width,
        "rope.freq_base": float(rope.get("rope_theta", 10000.0)),
        "vocab_size": int(config["vocab_size"]),
    }
    if rope.get("rope_type") == "linear":
        found |= {"rope.scaling.type": "linear", "rope.scaling.factor": float(rope["factor"])}
    return found


def head_width(config: Mapping[str, Any]) -> int:
    """Return the numbers in one attention head."""
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def key_heads(config: Mapping[str, Any]) -> int:
    """Return how many heads have keys and values of their own."""
    return int(config.get("num_key_value_heads") or config["num_attention_heads"])


def in_order(architecture: str, name: str, values: Weights, config: Mapping[str, Any]) -> Weights:
    """Return the tensor `name` (GGUF's word) with its rows in the order that llama.cpp's rotary embedding wants.

    transformers turns number i of a head against number i + half, llama.cpp's llama turns neighbors: rows
    (heads, 2, half) become (heads, half, 2).
    """
    part = name.split(".")[2] if name.startswith("blk.") else ""
    if architecture not in _PERMUTED or part not in ("attn_q", "attn_k"):
        return values
    heads = int(config["num_attention_heads"]) if part == "attn_q" else key_heads(config)
    half = values.shape[0] // heads // 2
    turned = values.reshape(heads, 2, half, *values.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(turned.reshape(values.shape))


def rope_factors(config: Mapping[str, Any]) -> Weights | None:
    """Return by what llama.cpp divides each frequency of the rotary embedding, None where it divides by nothing.

    Llama 3.1's scaling: long waves are stretched by `factor`, short ones not, those between in part.
    """
    rope = _rope(config)
    if rope.get("rope_type") != "llama3":
        return None
    width = head_width(config)
    frequencies = 1.0 / float(rope.get("rope_theta", 10000.0)) ** (np.arange(0, width, 2, dtype=np.float64) / width)
    turns = float(rope["original_max_position_embeddings"]) * frequencies / (2 * np.pi)
    low, high = float(rope["low_freq_factor"]), float(rope["high_freq_factor"])
    smooth = np.clip((turns - low) / (high - low), 0.0, 1.0)
    return (1.0 / (smooth + (1.0 - smooth) / float(rope["factor"]))).astype(np.float32)


def _rope(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the rotary embedding's settings, in the words of transformers 5, from old and new configurations."""
    rope = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
    rope.setdefault("rope_type", rope.get("type", "default"))
    rope.setdefault("rope_theta", config.get("rope_theta", 10000.0))
    return rope
