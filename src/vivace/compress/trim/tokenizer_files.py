"""The tokenizer with fewer tokens: every file that names a token's id, written anew."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from vivace.compress.trim.vocabulary import Vocabulary
from vivace.errors import ModelError
from vivace.models.tokenizer import read_json
from vivace.models.weights import TOKENIZER_FILES
from vivace.store.files import write_atomic

# Files of other libraries, which would have to be trained again to hold fewer pieces; tokenizer.json says the same.
_LEFT_OUT = frozenset({"tokenizer.model"})
_REWRITTEN = frozenset({"tokenizer.json", "tokenizer_config.json", "added_tokens.json", "vocab.json", "merges.txt"})
# Where a tokenizer's class would look for the files that are not there, and code that is never run.
_OLD_KEYS = ("vocab_file", "merges_file", "auto_map")


def renumbered(vocabulary: Vocabulary, numbers: Mapping[int, int]) -> Tokenizer:
    """Return the tokenizer that has only the tokens whose old ids are in `numbers`, under their new ids.

    Raises `ModelError` when the library gives one of them another id.
    """
    told = dict(vocabulary.definition)
    told["model"] = _model(vocabulary, numbers)
    told["added_tokens"] = [
        token | {"id": numbers[vocabulary.added[token["content"]]]} for token in told.get("added_tokens") or ()
    ]
    told["post_processor"] = _processor(told.get("post_processor"), numbers)
    try:
        tokenizer = Tokenizer.from_str(json.dumps(told))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"The vocabulary of {vocabulary.origin} cannot be trimmed: {error}.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    for old, new in numbers.items():
        name = vocabulary.names.get(old)
        if name is not None and tokenizer.token_to_id(name) != new:
            raise ModelError(f"The token {name!r} of {vocabulary.origin} cannot be given another id.")
    return tokenizer


def write_tokenizer(
    tokenizer: Tokenizer, vocabulary: Vocabulary, numbers: Mapping[int, int], source: Path, out: Path
) -> None:
    """Write the tokenizer's files into `out`; template, special tokens and licence are those of `source`."""
    write_atomic(out / "tokenizer.json", tokenizer.to_str(pretty=True) + "\n")
    config = {key: value for key, value in read_json(source / "tokenizer_config.json").items() if key not in _OLD_KEYS}
    # Any other class may build its own tokenizer from files that are not there.
    config["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(written := config.get("added_tokens_decoder"), dict):
        config["added_tokens_decoder"] = {
            str(numbers[int(old)]): token for old, token in written.items() if int(old) in numbers
        }
    _write_json(out / "tokenizer_config.json", config)
    if (source / "added_tokens.json").is_file():
        _write_json(out / "added_tokens.json", {name: numbers[old] for name, old in vocabulary.added.items()})
    model = json.loads(tokenizer.to_str())["model"]
    if vocabulary.kind == "BPE" and (source / "vocab.json").is_file() and (source / "merges.txt").is_file():
        write_atomic(out / "vocab.json", json.dumps(model["vocab"], ensure_ascii=False) + "\n")
        lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
        write_atomic(out / "merges.txt", "\n".join(lines) + "\n")
    for name in TOKENIZER_FILES:
        if name not in _REWRITTEN | _LEFT_OUT and (source / name).is_file():
            write_atomic(out / name, (source / name).read_bytes())


def _model(vocabulary: Vocabulary, numbers: Mapping[int, int]) -> dict[str, Any]:
    model = dict(vocabulary.model)
    kept = {piece: number for piece, number in vocabulary.pieces.items() if number in numbers}
    if vocabulary.kind == "Unigram":
        model["vocab"] = [entry for number, entry in enumerate(model["vocab"]) if number in numbers]
        if isinstance(model.get("unk_id"), int):
            model["unk_id"] = numbers[model["unk_id"]]
    else:
        model["vocab"] = {piece: numbers[number] for piece, number in kept.items()}
    if vocabulary.kind == "BPE":
        # All merges between what is there, not only one for each piece: any of them may be the way to it.
        model["merges"] = [
            [left, right] for left, right in vocabulary.merges if {left, right, left + right} <= kept.keys()
        ]
    return model


def _processor(processor: Any, numbers: Mapping[int, int]) -> Any:
    """Renumber what a tokenizer puts around a text."""
    if not isinstance(processor, Mapping):
        return processor
    told = dict(processor)
    if told["type"] == "Sequence":
        told["processors"] = [_processor(step, numbers) for step in told["processors"]]
    if told["type"] == "TemplateProcessing":
        told["special_tokens"] = {
            name: token | {"ids": [numbers[number] for number in token["ids"]]}
            for name, token in told["special_tokens"].items()
        }
    for key in ("sep", "cls"):  # BertProcessing and RobertaProcessing
        if isinstance(told.get(key), list | tuple):
            told[key] = [told[key][0], numbers[told[key][1]]]
    return told


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_atomic(path, json.dumps(value, ensure_ascii=False, indent=2, sort_keys=True) + "\n")
