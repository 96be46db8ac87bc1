"""How long a prompt is for a provider whose tokenizer is not known: an estimate that errs on the long side."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

from vivace.domain import Message
from vivace.errors import EngineError

TURN_TOKENS = 8  # what templates put around a turn, generously
# A run of capitals, a word, a run of blanks, one digit or other ASCII character, or one character beyond ASCII.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\s+|[\x00-\x7f]|[^\x00-\x7f]")
_NUMBER = re.compile(r"(?<=\S) (?=[0-9])")


class EstimatingTokenizer:
    """Stands where a tokenizer is asked for lengths; its ids mean nothing and cannot be turned into text."""

    eos_ids: frozenset[int] = frozenset()
    vocab_size = 0

    def __init__(self, context_length: int) -> None:
        self.context_length = context_length

    def encode(self, text: str) -> tuple[int, ...]:
        """Return as many zeros as `text` has tokens at most, by estimate."""
        return (0,) * estimated_tokens(text)

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[int, ...]:
        """Return as many zeros as the prompt has tokens at most, by estimate."""
        count = TURN_TOKENS if add_generation_prompt else 0
        for message in messages:
            count += TURN_TOKENS + estimated_tokens(message.content) + estimated_tokens(message.name or "")
            for call in message.tool_calls:
                count += TURN_TOKENS + estimated_tokens(f"{call.id} {call.function.name} {call.function.arguments}")
        if tools:
            count += 4 * TURN_TOKENS + estimated_tokens(json.dumps(list(tools), ensure_ascii=False))
        return (0,) * count

    def decode(self, ids: Iterable[int]) -> NoReturn:
        """Raise: nobody here knows the provider's tokens."""
        raise _unknown()

    def stream(self) -> NoReturn:
        """Raise: nobody here knows the provider's tokens."""
        raise _unknown()


def estimated_tokens(text: str) -> int:
    """Return more tokens than most vocabularies make of `text`, a tenth for safety included.

    A word counts one token for four letters begun, capitals one for two, a digit or sign one, blanks one for four
    begun, though none for the one before a word; a character beyond ASCII as many as UTF-8 has bytes for it, less one.
    """
    count = len(_NUMBER.findall(text))
    for part in _PART.findall(text):
        if part == " ":
            continue
        if not part.isascii():
            count += max(1, len(part.encode("utf-8", errors="replace")) - 1)
        elif part.isupper():
            count += (len(part) + 1) // 2
        else:
            count += (len(part) + 3) // 4
    return count + (count + 9) // 10


def _unknown() -> EngineError:
    return EngineError(
        "The provider's tokens are not known here.", "Name the model's tokenizer in its table [models.providers.…]."
    )
