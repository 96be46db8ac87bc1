"""What a model folder says about itself, compared with what the trainer's folder says."""

import hashlib
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from msgspec import Struct

from vivace.domain import Message, Model
from vivace.errors import ModelError, RequestError
from vivace.models import ChatTokenizer
from vivace.models.gguf_file import read_header
from vivace.models.tokenizer import read_json
from vivace.parity.findings import Finding
from vivace.parity.rendering import Words, shown

# Settings of generation that other servers apply by themselves when a request does not name them.
_SAMPLING = (
    "do_sample", "temperature", "top_p", "top_k", "min_p", "typical_p", "repetition_penalty", "max_new_tokens",
    "max_length", "min_new_tokens", "no_repeat_ngram_size", "suppress_tokens", "forced_bos_token_id",
    "forced_eos_token_id",
)  # fmt: skip
_IDS = ("suppress_tokens", "forced_bos_token_id", "forced_eos_token_id")
_PARTS = ("normalizer", "pre_tokenizer", "decoder")
_PROBE = (Message("user", "\ufffaWhere is my order?\ufffa"),)

_HINTS = {
    "end of turn": "Set eos_token_id in generation_config.json and config.json to the trainer's, or answers run on or "
    "break off.",
    "ends told to other programs": "Write eos_token_id into generation_config.json: vLLM and others read it there.",
    "first token": "Copy tokenizer_config.json and special_tokens_map.json of the base again.",
    "added tokens at the ends": "The tokenizer's post-processor is another one: copy tokenizer.json of the base again.",
    "chat template": "Copy the base's chat_template.jinja again, or train again with the template that is served.",
    "default system prompt": "Take the base's template, or set [project] system and train again.",
    "generation settings": "Copy generation_config.json of the base again: other servers apply what stands there.",
    "context length": "Set max_position_embeddings to the trainer's.",
    "truncation side": "Set truncation_side in tokenizer_config.json to the trainer's.",
    "tokenizer": "Copy tokenizer.json of the base again.",
    "tied embeddings": "Save the model again, with the head that belongs to it: the configuration and the weights "
    "contradict one another.",
}


class Facts(Struct, frozen=True):
    """What a folder says; tokens are told by their text, so that a trimmed vocabulary can be compared."""

    ends: frozenset[str]
    told_ends: frozenset[str] | None
    first: str
    added: tuple[str, str]
    template: str
    default_system: str
    generation: Mapping[str, Any]
    context_length: int
    truncation: str
    tokenizer: Mapping[str, str]


def read_facts(folder: Path) -> Facts:
    """Return what a folder with a tokenizer says; raises `ModelError` when it cannot be read."""
    chat, words = ChatTokenizer.open(folder), Words(folder)
    tokenizer = read_json(folder / "tokenizer.json")
    settings = read_json(folder / "tokenizer_config.json")
    generation = read_json(folder / "generation_config.json")
    told = generation.get("eos_token_id")
    ends = [told] if isinstance(told, int) else told if isinstance(told, list) else None
    cutting = tokenizer.get("truncation")
    side = str(settings.get("truncation_side", "right"))
    if isinstance(cutting, dict):
        side += f", cut to {cutting.get('max_length')} tokens on the {str(cutting.get('direction', 'Right')).lower()}"
    return Facts(
        ends=frozenset(words.piece(number) for number in chat.eos_ids),
        told_ends=None if ends is None else frozenset(words.piece(number) for number in ends),
        first=_token(settings.get("bos_token"))
        or _token(read_json(folder / "special_tokens_map.json").get("bos_token")),
        added=words.added(),
        template=chat.template.replace("\r\n", "\n").strip(),
        default_system=_default_system(chat),
        generation={key: generation[key] for key in _SAMPLING if generation.get(key) is not None},
        context_length=chat.context_length,
        truncation=side,
        tokenizer=_digests(tokenizer),
    )


def compare_facts(hop: str, ours: Facts, theirs: Facts, *, trimmed: bool = False) -> list[Finding]:
    """Return a finding for each thing that two folders must say alike; `trimmed` leaves the vocabulary out."""
    found = [
        _same(hop, "end of turn", _set(ours.ends), _set(theirs.ends)),
        _same(hop, "first token", ours.first, theirs.first),
        _same(hop, "added tokens at the ends", _pair(ours.added), _pair(theirs.added)),
        _template(hop, ours, theirs),
        _same(hop, "default system prompt", shown(ours.default_system), shown(theirs.default_system)),
        _same(
            hop,
            "generation settings",
            _settings(ours.generation, trimmed=trimmed),
            _settings(theirs.generation, trimmed=trimmed),
        ),
        _same(hop, "truncation side", ours.truncation, theirs.truncation),
        _tokenizer(hop, ours, theirs, trimmed=trimmed),
    ]
    if theirs.told_ends is not None:
        # A model may tell more ends in another file than in this one: none may be missing that training learned.
        found.append(_same(hop, "ends told to other programs", _set(ours.ends), _set(theirs.told_ends)))
    length = Finding(hop, "context length", theirs.context_length == ours.context_length, f"{ours.context_length:,}")
    told = f"{theirs.context_length:,}" + (" tokens" if length.met else "")
    found.append(_with(length, told))
    return found


def check_gguf(hop: str, file: Path, ours: Facts, words: Words) -> list[Finding]:
    """Return what a GGUF file's own metadata says of ends, first token and template: what llama.cpp's server reads."""
    metadata = read_header(file).metadata
    end = metadata.get("tokenizer.ggml.eos_token_id")
    also = metadata.get("tokenizer.ggml.eot_token_id")
    ends = {words.piece(number) for number in (end, also) if isinstance(number, int)}
    found = []
    met = bool(ends & ours.ends) and ends <= ours.ends
    expected, told = _set(ours.ends), _set(frozenset(ends))
    # The file has room for one end and llama.cpp finds further ones by their names.
    found.append(_finding(hop, "end of turn in the file", met, expected, told, _HINTS["end of turn"]))
    written = str(metadata.get("tokenizer.chat_template", "")).replace("\r\n", "\n").strip()
    same = written == ours.template
    told = "the trainer's" if same else "another one" if written else "none"
    found.append(_finding(hop, "chat template in the file", same, "the trainer's", told, _HINTS["chat template"]))
    adds, wanted = bool(metadata.get("tokenizer.ggml.add_bos_token", False)), bool(ours.added[0])
    words_of = {True: "added by the tokenizer", False: "not added by the tokenizer"}
    hint = "Set tokenizer.ggml.add_bos_token as the tokenizer has it, or the first token comes twice or not at all."
    found.append(_finding(hop, "first token in the file", adds == wanted, words_of[wanted], words_of[adds], hint))
    return found


def check_genai(hop: str, folder: Path, ours: Facts, words: Words) -> list[Finding]:
    """Return what an ONNX folder's `genai_config.json` says of ends: what onnxruntime-genai's own server reads."""
    model = read_json(folder / "genai_config.json").get("model")
    told = model.get("eos_token_id") if isinstance(model, dict) else None
    numbers = [told] if isinstance(told, int) else told if isinstance(told, list) else []
    ends = frozenset(words.piece(number) for number in numbers if isinstance(number, int))
    met = ends == ours.ends
    return [_finding(hop, "end of turn in the file", met, _set(ours.ends), _set(ends), _HINTS["end of turn"])]


def check_file(hop: str, model: Model, ours: Facts, words: Words) -> list[Finding]:
    """Return what the format's own file says, for programs that read nothing else."""
    if model.format == "gguf":
        folder = model.path
        file = folder if folder.is_file() else next(iter(sorted(folder.glob("*.gguf"))), None)
        return [] if file is None else check_gguf(hop, file, ours, words)
    return check_genai(hop, model.path, ours, words) if model.format == "onnx" else []


def _same(hop: str, check: str, expected: str, found: str) -> Finding:
    return _finding(hop, check, expected == found, expected, found, _HINTS[check])


def _finding(hop: str, check: str, met: bool, expected: str, found: str, hint: str) -> Finding:
    return Finding(hop, check, met, expected or "none", found or "none", hint="" if met else hint)


def _with(finding: Finding, told: str) -> Finding:
    hint = "" if finding.met else _HINTS[finding.check]
    return Finding(finding.hop, finding.check, finding.met, finding.expected, told, hint=hint)


def _template(hop: str, ours: Facts, theirs: Facts) -> Finding:
    if ours.template == theirs.template:
        return Finding(hop, "chat template", True, found=f"the trainer's, sha256 {_short(ours.template)}")
    expected, found = f"sha256 {_short(ours.template)}", f"sha256 {_short(theirs.template)}" if theirs.template else ""
    return _finding(hop, "chat template", False, expected, found, _HINTS["chat template"])


def _tokenizer(hop: str, ours: Facts, theirs: Facts, *, trimmed: bool) -> Finding:
    parts = [part for part in ours.tokenizer if not trimmed or part in _PARTS]
    other = [part for part in parts if ours.tokenizer[part] != theirs.tokenizer[part]]
    if not other:
        told = "the trainer's" if not trimmed else "the trainer's but for the vocabulary, which was trimmed"
        return Finding(hop, "tokenizer", True, found=told)
    told = "another " + ", another ".join(other)
    return _finding(hop, "tokenizer", False, "the trainer's", told, _HINTS["tokenizer"])


def _digests(tokenizer: Mapping[str, Any]) -> dict[str, str]:
    """Return a hash of each part of `tokenizer.json`, however it is written down."""
    model = tokenizer.get("model")
    model = dict(model) if isinstance(model, dict) else {}
    vocabulary, merges = model.pop("vocab", None), model.pop("merges", None)
    if isinstance(merges, list):  # written as "a b" by older versions
        merges = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in merges]
    parts: dict[str, Callable[[], Any]] = {
        "vocabulary": lambda: vocabulary,
        "merges": lambda: merges,
        "model": lambda: {key: value for key, value in model.items() if value not in (None, False)},
        "added tokens": lambda: tokenizer.get("added_tokens"),
        **{part: partial(tokenizer.get, part) for part in _PARTS},
    }
    return {name: _short(json.dumps(part(), sort_keys=True, ensure_ascii=True)) for name, part in parts.items()}


def _default_system(chat: ChatTokenizer) -> str:
    """Return what the template writes before a first question that has no system prompt."""
    try:
        text = chat.render(_PROBE, add_generation_prompt=False)
    except (RequestError, ModelError):
        return ""
    return text.split("\ufffa", 1)[0]


def _token(value: Any) -> str:
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""


def _set(tokens: frozenset[str]) -> str:
    return ", ".join(sorted(tokens))


def _pair(added: tuple[str, str]) -> str:
    return f"{added[0] or 'none'} before, {added[1] or 'none'} after"


def _settings(values: Mapping[str, Any], *, trimmed: bool) -> str:
    """Return settings in words; those that hold ids are other numbers where a vocabulary was trimmed."""
    told = [f"{name} {value}" for name, value in sorted(values.items()) if not (trimmed and name in _IDS)]
    return ", ".join(told) or "none"


def _short(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
