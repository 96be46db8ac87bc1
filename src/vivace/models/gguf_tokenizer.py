"""Rebuild a tokenizer from a GGUF file's vocabulary, with the pre-tokenizer the file names."""

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from vivace.errors import ModelError
from vivace.models.gguf_file import GgufHeader
from vivace.store.files import write_atomic

_CONTROL, _USER_DEFINED = 3, 4
# The splitting patterns of the original tokenizers, which GGUF names but does not hold.
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _REST
_LLAMA3 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _REST


def write_tokenizer(header: GgufHeader, out: Path, source: Path) -> None:
    """Write `tokenizer.json`, its configuration, the special tokens and the chat template of a GGUF file into `out`."""
    metadata = header.metadata
    tokens, kinds = metadata.get("tokenizer.ggml.tokens"), metadata.get("tokenizer.ggml.token_type")
    merges = metadata.get("tokenizer.ggml.merges")
    kind = metadata.get("tokenizer.ggml.model")
    if kind != "gpt2" or not tokens or merges is None:
        raise ModelError(
            f"{source} holds the tokenizer {kind!r}; only byte-level BPE ('gpt2') is read from GGUF.",
            "Use the model's Hugging Face name or folder instead.",
        )
    special = {
        f"{word}_token": tokens[metadata[f"tokenizer.ggml.{key}_token_id"]]
        for word, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown"))
        if f"tokenizer.ggml.{key}_token_id" in metadata
    }
    bos = special.get("bos_token") if metadata.get("tokenizer.ggml.add_bos_token") else None
    tokenizer = _tokenizer(
        tokens, kinds or [1] * len(tokens), merges, str(metadata.get("tokenizer.ggml.pre")), bos, source
    )
    write_atomic(out / "tokenizer.json", tokenizer.to_str(pretty=True))
    config = {
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": header.setting("context_length"),
        "tokenizer_class": "PreTrainedTokenizerFast",
        **special,
    }
    write_atomic(out / "tokenizer_config.json", _json(config))
    write_atomic(out / "special_tokens_map.json", _json(special))
    template = metadata.get("tokenizer.chat_template")
    if template:
        write_atomic(out / "chat_template.jinja", str(template))


def _tokenizer(
    tokens: list[str], kinds: list[int], merges: list[str], pre: str, bos: str | None, source: Path
) -> Tokenizer:
    pairs = [(left, right) for left, _, right in (merge.partition(" ") for merge in merges)]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    # No unknown token: a byte the vocabulary lacks must not turn into a control token in the middle of a prompt.
    model = models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=pre == "llama-bpe")
    tokenizer = Tokenizer(model)
    if pre == "qwen2":
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = _pre_tokenizer(pre, source)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = (
        processors.ByteLevel(trim_offsets=False)
        if bos is None
        else processors.TemplateProcessing(
            single=f"{bos} $A", pair=f"{bos} $A {bos} $B", special_tokens=[(bos, vocabulary[bos])]
        )
    )
    added = [
        AddedToken(token, special=kind == _CONTROL, normalized=False)
        for token, kind in zip(tokens, kinds, strict=True)
        if kind in (_CONTROL, _USER_DEFINED)
    ]
    tokenizer.add_tokens(added)
    return tokenizer


def _pre_tokenizer(pre: str, source: Path) -> Any:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    if pre in ("gpt-2", "gpt2"):
        return byte_level
    if pre in ("qwen2", "llama-bpe"):
        split = pre_tokenizers.Split(Regex(_QWEN2 if pre == "qwen2" else _LLAMA3), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    raise ModelError(
        f"{source} names the pre-tokenizer {pre!r}, which is not known.",
        "Use the model's Hugging Face name or folder instead.",
    )


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True) + "\n"
