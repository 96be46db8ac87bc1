"""A tokenizer in GGUF's words: tokens, kinds, merges or scores, the name of its pre-tokenizer, special tokens."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct
from tokenizers import Tokenizer

from vivace.errors import ModelError
from vivace.models import ChatTokenizer
from vivace.models.tokenizer import read_json

_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED, _UNUSED, _BYTE = 1, 2, 3, 4, 5, 6
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# What each pre-tokenizer that llama.cpp knows by name splits by, and whether whole words need no merges.
_PATTERNS = {
    "qwen2": _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|" + _REST,
    "llama-bpe": _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|" + _REST,
}
_IGNORES_MERGES = {"llama-bpe"}
_HINT = "Export the model to another format."


class Vocabulary(Struct, frozen=True):
    """`merges` are set for byte-level BPE, `scores` for SentencePiece-like BPE; `fields` are the other keys."""

    model: str
    tokens: list[str]
    kinds: list[int]
    merges: list[str] | None
    scores: list[float] | None
    fields: dict[str, Any]


def read_vocabulary(folder: Path, rows: int) -> Vocabulary:
    """Return the tokenizer of a model folder for an embedding with `rows` rows.

    Raises `ModelError` for one that llama.cpp would read differently, as far as its file tells.
    """
    described = read_json(folder / "tokenizer.json")
    model = described.get("model") or {}
    if model.get("type") != "BPE":
        raise ModelError(f"{folder.name} has a {model.get('type')} tokenizer; GGUF is written for BPE.", _HINT)
    if model.get("dropout") or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise ModelError(f"{folder.name} has a BPE tokenizer with options that llama.cpp lacks.", _HINT)
    tokens, kinds = _tokens(described, rows, folder.name)
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model.get("merges", [])]
    if model.get("byte_fallback"):
        _check_sentencepiece(described, folder.name)
        scores = _scores(tokens, kinds, merges, folder.name)
        fields = {"pre": "default", "add_space_prefix": _prepends(described)}
        found = Vocabulary("llama", tokens, _sentencepiece_kinds(tokens, kinds, model), None, scores, fields)
    else:
        fields = {"pre": _pre_tokenizer(described, folder.name)}
        found = Vocabulary("gpt2", tokens, kinds, merges, None, fields)
    found.fields.update(_special(folder, tokens))
    return found


def _tokens(described: Mapping[str, Any], rows: int, name: str) -> tuple[list[str], list[int]]:
    vocabulary: dict[str, int] = dict(described["model"].get("vocab", {}))
    added = {entry["id"]: entry for entry in described.get("added_tokens") or []}
    highest = max([*vocabulary.values(), *added], default=-1)
    if highest >= rows:
        raise ModelError(f"{name} has {rows} embeddings, but its tokenizer has a token {highest}.", "Make it again.")
    # Embeddings are often rounded up to more rows than there are tokens.
    tokens, kinds = [f"[PAD{number}]" for number in range(rows)], [_UNUSED] * rows
    for token, number in vocabulary.items():
        tokens[number], kinds[number] = token, _NORMAL
    for number, entry in added.items():
        tokens[number], kinds[number] = entry["content"], _CONTROL if entry.get("special") else _USER_DEFINED
    return tokens, kinds


def _pre_tokenizer(described: Mapping[str, Any], name: str) -> str:
    """Return the name that llama.cpp has for the way a byte-level tokenizer splits its text."""
    parts = described.get("pre_tokenizer") or {}
    steps = parts.get("pretokenizers") if parts.get("type") == "Sequence" else [parts]
    shapes = [_shape(step) for step in steps or []]
    normal = (described.get("normalizer") or {}).get("type")
    ignores = bool(described["model"].get("ignore_merges"))
    by_shape: dict[str, list[tuple[Any, ...]]] = {
        "gpt-2": [("ByteLevel", True)],
        "smollm": [("Digits", True), ("ByteLevel", True)],
        **{each: [("Split", pattern), ("ByteLevel", False)] for each, pattern in _PATTERNS.items()},
    }
    for known, shape in by_shape.items():
        # transformers normalizes Qwen's texts to NFC, llama.cpp does not; composed characters are what people type.
        if shapes == shape and normal in ((None, "NFC") if known == "qwen2" else (None,)):
            if ignores != (known in _IGNORES_MERGES):
                break
            return known
    raise ModelError(f"{name} splits its text in a way that llama.cpp has no name for.", _HINT)


def _shape(step: Mapping[str, Any]) -> tuple[Any, ...]:
    match step.get("type"):
        case "ByteLevel" if not step.get("add_prefix_space"):
            return ("ByteLevel", bool(step.get("use_regex", True)))
        case "Digits":
            return ("Digits", bool(step.get("individual_digits")))
        case "Split" if step.get("behavior") == "Isolated" and not step.get("invert"):
            return ("Split", (step.get("pattern") or {}).get("Regex"))
        case other:
            return (other, "unknown")


def _check_sentencepiece(described: Mapping[str, Any], name: str) -> None:
    parts = described.get("normalizer") or {}
    steps = parts.get("normalizers") if parts.get("type") == "Sequence" else [parts] if parts else []
    kinds = [step.get("type") for step in steps or []]
    split = (described.get("pre_tokenizer") or {}).get("type")
    if set(kinds) <= {"Prepend", "Replace"} and split in (None, "Metaspace") and ("Replace" in kinds) != bool(split):
        return
    raise ModelError(f"{name} prepares its text in a way that llama.cpp's SentencePiece reading lacks.", _HINT)


def _prepends(described: Mapping[str, Any]) -> bool:
    split = described.get("pre_tokenizer") or {}
    if split.get("type") == "Metaspace":
        return str(split.get("prepend_scheme", "always")) != "never"
    return '"Prepend"' in json.dumps(described.get("normalizer"))


def _scores(tokens: Sequence[str], kinds: Sequence[int], merges: Sequence[str], name: str) -> list[float]:
    """Return scores by which the best pair is the one merged first: minus the rank of a token's first merge."""
    ranks: dict[str, int] = {}
    last = ""
    for merge in merges:
        token = merge.replace(" ", "")
        if token != last and token in ranks:
            raise ModelError(f"{name} merges {token!r} at two ranks, which scores cannot say.", _HINT)
        ranks.setdefault(token, len(ranks))
        last = token
    return [
        0.0 if kind != _NORMAL else -float(ranks.get(token, len(ranks)))
        for token, kind in zip(tokens, kinds, strict=True)
    ]


def _sentencepiece_kinds(tokens: Sequence[str], kinds: Sequence[int], model: Mapping[str, Any]) -> list[int]:
    every_byte = {f"<0x{number:02X}>" for number in range(256)}
    found = []
    for token, kind in zip(tokens, kinds, strict=True):
        if token == model.get("unk_token"):
            found.append(_UNKNOWN)
        else:
            found.append(_BYTE if token in every_byte else kind)
    return found


def _special(folder: Path, tokens: Sequence[str]) -> dict[str, Any]:
    """Return ids of special tokens, whether a text gets one at its ends, and the chat template."""
    ours = ChatTokenizer.open(folder)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    numbers = {token: number for number, token in enumerate(tokens)}
    written = [read_json(folder / file) for file in ("tokenizer_config.json", "special_tokens_map.json")]
    config = read_json(folder / "config.json")
    found: dict[str, Any] = {}
    for word, key in (("bos", "bos"), ("eos", "eos"), ("pad", "padding"), ("unk", "unknown")):
        named = [_text(table.get(f"{word}_token")) for table in written]
        ids = [numbers[token] for token in named if token in numbers]
        number = ids[0] if ids else config.get(f"{word}_token_id")
        if isinstance(number, int):
            found[f"{key}_token_id"] = number
    ends = sorted(ours.eos_ids)
    if ends and found.get("eos_token_id") not in ends:
        found["eos_token_id"] = ends[0]
    others = [number for number in ends if number != found.get("eos_token_id")]
    if others:
        found["eot_token_id"] = others[-1]
    ids = tokenizer.encode("x").ids
    found["add_bos_token"] = bool(ids) and "bos_token_id" in found and ids[0] == found["bos_token_id"]
    found["add_eos_token"] = bool(ids) and "eos_token_id" in found and ids[-1] == found["eos_token_id"]
    if ours.template:
        found["chat_template"] = ours.template
    return found


def _text(token: Any) -> str | None:
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None
