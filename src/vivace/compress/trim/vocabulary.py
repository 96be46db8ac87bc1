"""What a tokenizer.json says: its pieces, added tokens, merges and scores, by the ids the library really gives them."""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer

from vivace.data.tokens.trimming import vocabulary as pieces_of
from vivace.errors import ModelError

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class Vocabulary:
    """A tokenizer and its definition; `pieces` are the model's tokens, `added` those recognized before it looks."""

    def __init__(self, tokenizer: Tokenizer, origin: str = "the tokenizer") -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self.tokenizer = tokenizer
        self.origin = origin
        self.definition: dict[str, Any] = json.loads(tokenizer.to_str())
        self.model: dict[str, Any] = self.definition["model"]
        self.kind = str(self.model["type"])
        self.pieces = pieces_of(self.model)
        found = self.definition.get("added_tokens") or ()
        # The library counts on from the vocabulary and does not care for the ids that stand in the file.
        self.added: dict[str, int] = {
            token["content"]: int(tokenizer.token_to_id(token["content"]) or 0) for token in found
        }
        self.special = frozenset(token["content"] for token in found if token["special"])
        self.names: dict[int, str] = {number: name for name, number in {**self.pieces, **self.added}.items()}

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the `tokenizer.json` of a model folder, without truncation and padding."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"{folder} has no tokenizer.json.", "Save it with a fast tokenizer.")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{path} cannot be read: {error}.") from error
        return cls(tokenizer, str(folder))

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        """The merges of a BPE model in their order, the first applied first."""
        return [(left, right) for left, right in self.model.get("merges") or ()]

    @cached_property
    def scores(self) -> dict[str, float]:
        """The log-probability of each piece of a Unigram model."""
        return {str(piece): float(score) for piece, score in self.model["vocab"]} if self.kind == "Unigram" else {}

    @cached_property
    def byte_pieces(self) -> dict[int, str]:
        """The piece for each byte that characters without a piece fall back to; empty for byte-level vocabularies."""
        if not self.model.get("byte_fallback"):
            return {}
        return {int(match[1], 16): piece for piece in self.pieces if (match := _BYTE.fullmatch(piece))}

    @cached_property
    def prefix(self) -> str:
        """What marks a WordPiece that continues a word."""
        return str(self.model.get("continuing_subword_prefix") or "")

    @property
    def unknown(self) -> str | None:
        """The piece for what cannot be written otherwise."""
        number = self.model.get("unk_id")
        if isinstance(number, int):
            return str(self.model["vocab"][number][0])
        name = self.model.get("unk_token")
        return name if isinstance(name, str) else None

    @cached_property
    def falls_back(self) -> bool:
        """Whether any character may lose its piece, because its bytes are written instead and read back.

        Not when a text can make a byte's token appear by itself: beside it, other bytes would be misread.
        """
        plain = not self.model.get("ignore_merges") and not self.added.keys() & set(self.byte_pieces.values())
        return self.kind == "BPE" and len(self.byte_pieces) == 256 and plain
