"""Small GGUF files made with llama.cpp's own writer, for tests."""

import json
from pathlib import Path

import numpy as np
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize
from safetensors.numpy import load_file

INNER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def write_gguf(
    model: Path,
    out: Path,
    *,
    architecture: str = "llama",
    kind: GGMLQuantizationType = GGMLQuantizationType.F32,
    pre: str = "gpt-2",
    tied: bool = True,
    extra_tensor: str | None = None,
    license_name: str = "apache-2.0",
) -> Path:
    """Write the tiny Hugging Face folder `model` as llama.cpp's converter would."""
    config = json.loads((model / "config.json").read_text())
    weights = load_file(model / "model.safetensors")
    if architecture == "qwen2":
        random = np.random.default_rng(0)
        for layer in range(config["num_hidden_layers"]):
            for part in "qkv":
                name = f"model.layers.{layer}.self_attn.{part}_proj"
                weights[f"{name}.bias"] = random.standard_normal(weights[f"{name}.weight"].shape[0]).astype(np.float32)
    if not tied:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"][::-1].copy()
    writer = GGUFWriter(str(out), architecture)
    writer.add_name("Tiny")
    writer.add_license(license_name)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_file_type(0 if kind == GGMLQuantizationType.F32 else 7)
    _add_tokenizer(writer, model, pre)
    for name, values in weights.items():
        target = _gguf_name(name)
        if architecture == "llama" and ("attn_q" in target or "attn_k" in target):
            heads = config["num_attention_heads" if "attn_q" in target else "num_key_value_heads"]
            values = values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
        if values.ndim == 2 and kind != GGMLQuantizationType.F32:
            writer.add_tensor(target, quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)
        else:
            writer.add_tensor(target, np.ascontiguousarray(values))
    if extra_tensor:
        writer.add_tensor(extra_tensor, np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def _add_tokenizer(writer: GGUFWriter, model: Path, pre: str) -> None:
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    vocabulary = tokenizer["model"]["vocab"]
    special = {token["id"] for token in tokenizer["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre)
    writer.add_token_list(tokens)
    writer.add_token_types([3 if number in special else 1 for number in range(len(tokens))])
    writer.add_token_merges([" ".join(merge) for merge in tokenizer["model"]["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template((model / "chat_template.jinja").read_text())


def _gguf_name(name: str) -> str:
    outer = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem, _, kind = name.rpartition(".")
    if stem in outer:
        return f"{outer[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{INNER[part]}.{kind}"
