"""A tiny chat model made on the spot: its words have no sense, its files are those of a real one."""

import json
from pathlib import Path
from typing import Any

from vivace.store.files import disk_errors, write_atomic

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
_WIDTH, _LAYERS, _HEADS, _INNER, _LENGTH = 64, 2, 4, 128, 512
_MERGES = (("t", "h"), ("th", "e"), ("i", "n"))  # llama.cpp opens no vocabulary without any
_VOCABULARY = 288  # the 256 bytes, the specials, and room up to a multiple of 32


def tiny_model(out: Path) -> Path:
    """Write a seeded two-layer Llama over bytes into `out` and return it; well under 1 MB, without torch."""
    from safetensors.numpy import save
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
    names = [*SPECIALS, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    names += [first + second for first, second in _MERGES]
    names += [f"<|unused{number}|>" for number in range(_VOCABULARY - len(names))]
    tokenizer = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, list(_MERGES)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(name, special=True, normalized=False) for name in SPECIALS])
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32", "hidden_act": "silu",
        "hidden_size": _WIDTH, "intermediate_size": _INNER, "num_hidden_layers": _LAYERS, "head_dim": _WIDTH // _HEADS,
        "num_attention_heads": _HEADS, "num_key_value_heads": _HEADS, "max_position_embeddings": _LENGTH,
        "rms_norm_eps": 1e-5, "rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"},
        "vocab_size": _VOCABULARY, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2,
        "tie_word_embeddings": True, "attention_bias": False, "mlp_bias": False,
    }  # fmt: skip
    special = {"bos_token": SPECIALS[1], "eos_token": SPECIALS[2], "pad_token": SPECIALS[2], "unk_token": SPECIALS[0]}
    files: dict[str, Any] = {
        "config.json": config,
        "generation_config.json": {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2},
        "special_tokens_map.json": special,
        "tokenizer_config.json": {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": _LENGTH, **special},
    }
    write_atomic(out / "tokenizer.json", tokenizer.to_str())
    write_atomic(out / "chat_template.jinja", TEMPLATE)
    for name, value in files.items():
        write_atomic(out / name, json.dumps(value, indent=1) + "\n")
    write_atomic(out / "model.safetensors", save(_weights(), metadata={"format": "pt"}))  # last: with it, it is whole
    return out


def _weights() -> dict[str, Any]:
    import numpy as np

    random = np.random.default_rng(7)

    def matrix(*shape: int) -> Any:
        return (random.standard_normal(shape) * 0.2).astype(np.float32)

    made = {"model.embed_tokens.weight": matrix(_VOCABULARY, _WIDTH), "model.norm.weight": np.ones(_WIDTH, np.float32)}
    for layer in range(_LAYERS):
        at = f"model.layers.{layer}"
        made |= {f"{at}.self_attn.{name}_proj.weight": matrix(_WIDTH, _WIDTH) for name in "qkvo"}
        made |= {f"{at}.mlp.{name}_proj.weight": matrix(_INNER, _WIDTH) for name in ("gate", "up")}
        made[f"{at}.mlp.down_proj.weight"] = matrix(_WIDTH, _INNER)
        for name in ("input_layernorm", "post_attention_layernorm"):
            made[f"{at}.{name}.weight"] = np.ones(_WIDTH, np.float32)
    return made
