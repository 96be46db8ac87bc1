"""From texts to the token ids of an encoder, the same in training and in serving."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from vivace.errors import ModelError
from vivace.models.tokenizer import read_json

CHARS_PER_TOKEN = 16  # what lies beyond is cut before tokenizing: a megabyte of text would take long


class Encoded(Struct, frozen=True):
    """Token ids of a text or of two; `types` is 1 for the tokens of the second, `second` where they begin."""

    ids: tuple[int, ...]
    types: tuple[int, ...]
    second: int


class EncoderTokenizer:
    """Tokenizes with a folder's `tokenizer.json`, special tokens as its encoder expects them."""

    def __init__(self, folder: Path, max_length: int) -> None:
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(f"{folder} has no tokenizer.json.", "Name an encoder with a fast tokenizer.")
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing more special
            raise ModelError(f"{path} cannot be read: {error}.") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        config = read_json(folder / "config.json")
        # RoBERTa's family counts positions from after its padding token.
        unused = int(config.get("pad_token_id") or 0) + 1 if "roberta" in str(config.get("model_type")) else 0
        longest = int(config.get("max_position_embeddings") or max_length) - unused
        self.max_length = min(max_length, longest)
        self.pad_id = int(config.get("pad_token_id") or 0)
        self.has_types = int(config.get("type_vocab_size") or 0) > 1
        self._added = (
            self._tokenizer.num_special_tokens_to_add(False),
            self._tokenizer.num_special_tokens_to_add(True),
        )

    def texts(self, texts: Sequence[str]) -> list[Encoded]:
        """Return the tokens of each text; what is too long loses its end."""
        limit = self.max_length - self._added[0]
        made = self._tokenizer.encode_batch([self._clean(text) for text in texts], add_special_tokens=False)
        found = []
        for one in made:
            one.truncate(limit)
            whole = self._tokenizer.post_process(one)
            found.append(Encoded(tuple(whole.ids), (0,) * len(whole.ids), len(whole.ids)))
        return found

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Encoded]:
        """Return the tokens of (context, answer); a long answer loses its end, then the context its beginning.

        An answer takes three quarters of the length at the most.
        """
        limit = self.max_length - self._added[1]
        contexts = [self._clean(context, keep_end=True) for context, _ in pairs]
        answers = [self._clean(answer) for _, answer in pairs]
        before = self._tokenizer.encode_batch(contexts, add_special_tokens=False)
        said = self._tokenizer.encode_batch(answers, add_special_tokens=False)
        found = []
        for context, answer in zip(before, said, strict=True):
            answer.truncate(3 * limit // 4)
            context.truncate(limit - len(answer.ids), direction="left")
            whole = self._tokenizer.post_process(context, answer)
            places = [place for place, text in enumerate(whole.sequence_ids) if text == 1]
            second = places[0] if places else len(whole.ids) - 1
            found.append(Encoded(tuple(whole.ids), tuple(whole.type_ids), second))
        return found

    def pad(self, batch: Sequence[Encoded]) -> dict[str, NDArray[np.int64]]:
        """Return the inputs of the encoder, each of shape (batch, longest)."""
        shape = (len(batch), max(len(row.ids) for row in batch))
        inputs = {"input_ids": np.full(shape, self.pad_id, np.int64), "attention_mask": np.zeros(shape, np.int64)}
        if self.has_types:
            inputs["token_type_ids"] = np.zeros(shape, np.int64)
        for line, row in enumerate(batch):
            inputs["input_ids"][line, : len(row.ids)] = row.ids
            inputs["attention_mask"][line, : len(row.ids)] = 1
            if self.has_types:
                inputs["token_type_ids"][line, : len(row.ids)] = row.types
        return inputs

    def _clean(self, text: str, *, keep_end: bool = False) -> str:
        limit = CHARS_PER_TOKEN * self.max_length
        text = text[-limit:] if keep_end else text[:limit]
        # Half a surrogate pair is no text to the tokenizer.
        return text.encode(errors="replace").decode()
