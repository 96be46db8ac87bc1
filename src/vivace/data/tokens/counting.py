"""Turn many texts into tokens at once, and tell what single tokens are."""

import json
from collections.abc import Iterable, Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from vivace.domain import Example
from vivace.errors import ModelError, RequestError
from vivace.models import ChatTokenizer
from vivace.models.tokenizer import read_json

Ids = NDArray[np.int64]


class TokenCounter:
    """A tokenizer that encodes batches; `chat` renders conversations when the folder is a chat model's."""

    def __init__(self, tokenizer: Tokenizer, chat: ChatTokenizer | None = None) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._chat = chat
        self.definition: dict[str, Any] = json.loads(tokenizer.to_str())
        self.vocab_size = int(tokenizer.get_vocab_size(with_added_tokens=True))
        self.unknown_id = _unknown_id(tokenizer, self.definition["model"])

    @classmethod
    def open(cls, folder: Path) -> "TokenCounter":
        """Open a folder with `tokenizer.json`; one without config.json or template still counts plain text."""
        path = folder / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{path} cannot be read: {error}.", "Is it a folder with a tokenizer?") from error
        return cls(tokenizer, ChatTokenizer.open(folder) if (folder / "config.json").is_file() else None)

    @property
    def context_length(self) -> int | None:
        """The most tokens the model can hold, None without a model."""
        return None if self._chat is None else self._chat.context_length

    @property
    def algorithm(self) -> str:
        """BPE, WordPiece, Unigram or WordLevel."""
        return str(self.definition["model"].get("type", ""))

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text; nothing is added."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)]

    def render(self, example: Example) -> str:
        """Return the conversation as the model reads it; plain turns where it has no template or refuses them."""
        if self._chat is not None and self._chat.template:
            try:
                return self._chat.render(example.messages, add_generation_prompt=False, tools=example.tools)
            except RequestError:
                pass  # such as a tool's turn that the template does not know: its text still counts
        return "\n".join(message.content for message in example.messages)

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens as they stand in the vocabulary, byte-level letters made readable."""
        letters = byte_letters() if self.is_byte_level else {}
        return [_readable(self._tokenizer.id_to_token(number) or "", letters) for number in ids]

    @cached_property
    def is_byte_level(self) -> bool:
        """Tell whether every byte has its own letter in the vocabulary, as in GPT-2."""
        return '"ByteLevel"' in json.dumps([self.definition.get("pre_tokenizer"), self.definition.get("decoder")])

    def is_part_of_character(self, token_id: int) -> bool:
        """Tell whether a token is bytes that make no character by themselves: the vocabulary did not know it."""
        token = self._tokenizer.id_to_token(token_id) or ""
        if not self.is_byte_level:
            return len(token) == 6 and token.startswith("<0x") and token.endswith(">")
        letters = byte_letters()
        if not all(char in letters for char in token):
            return False
        try:
            bytes(letters[char] for char in token).decode()
        except UnicodeDecodeError:
            return True
        return False


def token_counts(encoded: Iterable[Sequence[int]], vocab_size: int) -> Ids:
    """Return how often each id occurs, an array of `vocab_size` counts."""
    flat = np.fromiter((number for ids in encoded for number in ids), dtype=np.int64)
    return np.bincount(flat, minlength=vocab_size)


@cache
def byte_letters() -> dict[str, int]:
    """Return the letter that stands for each byte in byte-level vocabularies (Radford et al. 2019, GPT-2)."""
    shown = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def _readable(token: str, letters: dict[str, int]) -> str:
    if letters and all(char in letters for char in token):
        return bytes(letters[char] for char in token).decode(errors="replace")
    return token.replace("\u2581", " ")


def _unknown_id(tokenizer: Tokenizer, model: dict[str, Any]) -> int | None:
    if isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    token = model.get("unk_token")
    return tokenizer.token_to_id(token) if isinstance(token, str) else None


def hidden_size(folder: Path) -> int | None:
    """Return the width of the model's embedding as its config.json says, None when it does not."""
    config = read_json(folder / "config.json")
    for table in (config, config.get("text_config")):
        value = table.get("hidden_size") if isinstance(table, dict) else None
        if isinstance(value, int):
            return value
    return None
