"""Turn a GGUF file into a Hugging Face folder with fp32 safetensors, without torch."""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from vivace.domain import Progress, SilentProgress
from vivace.errors import ModelError
from vivace.models.gguf_file import GgufHeader, GgufTensor, read_header
from vivace.models.gguf_tokenizer import write_tokenizer
from vivace.store.files import disk_errors, guard_disk, write_atomic

SHARD_BYTES = 2_000_000_000
Weights = NDArray[np.float32]


class _Architecture(Struct, frozen=True):
    class_name: str
    # llama.cpp reorders the rows of llama's query and key projections for its own rotary embedding.
    permuted: bool
    biased: bool
    settings: Mapping[str, Any]


_ARCHITECTURES = {
    "llama": _Architecture("LlamaForCausalLM", True, False, {"attention_bias": False, "mlp_bias": False}),
    "qwen2": _Architecture("Qwen2ForCausalLM", False, True, {"use_sliding_window": False}),
}
_CONFIG = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "attention.head_count": "num_attention_heads",
}
_OUTER = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
_BLOCK = re.compile(r"blk\.(\d+)\.([a-z_]+)\.(weight|bias)")
_INNER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_BIASED = frozenset({"attn_q", "attn_k", "attn_v"})


def convert_gguf(source: Path, out: Path, progress: Progress | None = None) -> GgufHeader:
    """Write the model of a GGUF file as a Hugging Face folder into `out` and return the file's header.

    Quantized weights become the fp32 numbers they stand for, so the result is a little worse than the original model.
    """
    header = read_header(source)
    architecture = _architecture(header, source)
    config = _config(header, architecture, source)
    names = {tensor.name: _hf_name(tensor.name, architecture, source) for tensor in header.tensors}
    guard_disk(out, 4 * sum(tensor.elements for tensor in header.tensors))
    with disk_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        _write_weights(header, source, names, config, out, progress or SilentProgress())
        write_tokenizer(header, out, source)
    write_atomic(out / "config.json", _json(config))
    write_atomic(out / "generation_config.json", _json(_generation_config(header)))
    return header


def _architecture(header: GgufHeader, source: Path) -> _Architecture:
    found = _ARCHITECTURES.get(header.architecture)
    hint = "Use the model's Hugging Face name or folder instead."
    if found is None:
        raise ModelError(
            f"{source} holds the architecture {header.architecture!r}; GGUF is read for {', '.join(_ARCHITECTURES)}.",
            hint,
        )
    if header.setting("rope.scaling.type") not in (None, "none") or _tensor(header, "rope_freqs.weight"):
        raise ModelError(f"{source} scales its rotary embedding, which is not read from GGUF.", hint)
    return found


def _config(header: GgufHeader, architecture: _Architecture, source: Path) -> dict[str, Any]:
    metadata = header.metadata
    missing = [key for key in (*_CONFIG, "attention.layer_norm_rms_epsilon") if header.setting(key) is None]
    embeddings = _tensor(header, "token_embd.weight")
    if missing or embeddings is None:
        raise ModelError(f"{source} does not say {', '.join(missing) or 'its token embeddings'}.", "Download it again.")
    heads = int(header.setting("attention.head_count"))
    ids = {f"{word}_token_id": metadata.get(f"tokenizer.ggml.{key}_token_id") for word, key in _SPECIALS.items()}
    return {
        "architectures": [architecture.class_name],
        "attention_dropout": 0.0,
        "dtype": "float32",
        "head_dim": int(header.setting("attention.key_length") or header.setting("embedding_length") // heads),
        "hidden_act": "silu",
        "initializer_range": 0.02,
        "model_type": header.architecture,
        "num_key_value_heads": int(header.setting("attention.head_count_kv") or heads),
        # Stored as a 32-bit float: 9.999999747378752e-06 was 1e-05.
        "rms_norm_eps": float(str(np.float32(header.setting("attention.layer_norm_rms_epsilon")))),
        "rope_parameters": {"rope_theta": float(header.setting("rope.freq_base") or 10000.0), "rope_type": "default"},
        "tie_word_embeddings": _tensor(header, "output.weight") is None,
        "use_cache": True,
        "vocab_size": embeddings.shape[0],
        **{hf: int(header.setting(key)) for key, hf in _CONFIG.items()},
        **{key: value for key, value in ids.items() if value is not None},
        **architecture.settings,
    }


_SPECIALS = {"bos": "bos", "eos": "eos", "pad": "padding"}


def _generation_config(header: GgufHeader) -> dict[str, Any]:
    metadata = header.metadata
    eos = [metadata.get(f"tokenizer.ggml.{key}_token_id") for key in ("eos", "eot")]
    config: dict[str, Any] = {"eos_token_id": sorted({value for value in eos if value is not None})}
    for word in ("bos", "pad"):
        value = metadata.get(f"tokenizer.ggml.{_SPECIALS[word]}_token_id")
        if value is not None:
            config[f"{word}_token_id"] = value
    return config


def _hf_name(name: str, architecture: _Architecture, source: Path) -> str:
    if name in _OUTER:
        return _OUTER[name]
    match = _BLOCK.fullmatch(name)
    if (
        match is not None
        and match[2] in _INNER
        and (match[3] == "weight" or (architecture.biased and match[2] in _BIASED))
    ):
        return f"model.layers.{match[1]}.{_INNER[match[2]]}.{match[3]}"
    raise ModelError(
        f"{source} holds the tensor {name!r}, which is not read from GGUF.", "Use the Hugging Face model instead."
    )


def _write_weights(
    header: GgufHeader, source: Path, names: Mapping[str, str], config: Mapping[str, Any], out: Path, progress: Progress
) -> None:
    from safetensors.numpy import save_file

    shards = list(_shards(header.tensors))
    index: dict[str, str] = {}
    permuted = _ARCHITECTURES[header.architecture].permuted
    with progress.task("Dequantizing weights", total=len(header.tensors)) as bar:
        for number, shard in enumerate(shards, 1):
            file = f"model-{number:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else "model.safetensors"
            weights: dict[str, Weights] = {}
            for tensor, values in _dequantized(shard, source):
                heads = _heads(tensor.name, config) if permuted else None
                weights[names[tensor.name]] = values if heads is None else _unpermuted(values, heads)
                bar.advance()
            save_file(weights, out / file, metadata={"format": "pt"})
            (out / file).chmod(0o644)
            index |= dict.fromkeys(weights, file)
    if len(shards) > 1:
        total = 4 * sum(tensor.elements for tensor in header.tensors)
        write_atomic(
            out / "model.safetensors.index.json", _json({"metadata": {"total_size": total}, "weight_map": index})
        )


def _shards(tensors: tuple[GgufTensor, ...]) -> Iterator[list[GgufTensor]]:
    shard: list[GgufTensor] = []
    filled = 0
    for tensor in tensors:
        size = 4 * tensor.elements
        if shard and filled + size > SHARD_BYTES:
            yield shard
            shard, filled = [], 0
        shard.append(tensor)
        filled += size
    yield shard


def _dequantized(tensors: list[GgufTensor], source: Path) -> Iterator[tuple[GgufTensor, Weights]]:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    data = np.memmap(source, mode="r", dtype=np.uint8)
    for tensor in tensors:
        try:
            kind = GGMLQuantizationType(tensor.type)
            block_size, block_bytes = GGML_QUANT_SIZES[kind]
            row_bytes = tensor.shape[-1] // block_size * block_bytes
            raw = data[tensor.offset :][: tensor.elements // block_size * block_bytes]
            yield tensor, np.ascontiguousarray(dequantize(raw.reshape(*tensor.shape[:-1], row_bytes), kind), np.float32)
        except (ValueError, KeyError, IndexError, NotImplementedError) as error:
            raise ModelError(
                f"{source} is damaged or too new: tensor {tensor.name!r} cannot be read ({error}).",
                "Download it again.",
            ) from error


def _heads(name: str, config: Mapping[str, Any]) -> int | None:
    if ".attn_q." in name:
        return int(config["num_attention_heads"])
    if ".attn_k." in name:
        return int(config["num_key_value_heads"])
    return None


def _unpermuted(values: Weights, heads: int) -> Weights:
    """Undo llama.cpp's interleaving of the two halves of each head: rows (heads, half, 2) become (heads, 2, half)."""
    half = values.shape[0] // heads // 2
    turned = values.reshape(heads, half, 2, *values.shape[1:]).swapaxes(1, 2)
    return np.ascontiguousarray(turned.reshape(values.shape))


def _tensor(header: GgufHeader, name: str) -> GgufTensor | None:
    return next((tensor for tensor in header.tensors if tensor.name == name), None)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
