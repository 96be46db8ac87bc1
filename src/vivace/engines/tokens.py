"""The tokenizer an engine speaks through: the model's own, or plain bytes for an echo without one."""

import codecs
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vivace.domain import Message, Model
from vivace.errors import ModelError, RequestError
from vivace.models import ChatTokenizer


class TextStream(Protocol):
    """Turns token ids into text one by one."""

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes."""
        ...

    def flush(self) -> str:
        """Return what is left at the end."""
        ...


class Tokenizer(Protocol):
    """What an engine needs of `ChatTokenizer`."""

    eos_ids: frozenset[int]
    context_length: int

    @property
    def vocab_size(self) -> int:
        """The number of tokens."""
        ...

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of `text`."""
        ...

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[int, ...]:
        """Return the ids of a conversation's prompt."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`."""
        ...

    def stream(self) -> TextStream:
        """Return a decoder for one answer as it comes."""
        ...


class ByteTokenizer:
    """One token per UTF-8 byte, and one that ends a turn."""

    eos_ids = frozenset({256})
    vocab_size = 257

    def __init__(self, context_length: int = 4096) -> None:
        self.context_length = context_length

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Return the conversation, one turn per line."""
        turns = "".join(f"{message.role}: {message.content}\n" for message in messages)
        return turns + ("assistant: " if add_generation_prompt else "")

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the bytes of `text`."""
        try:
            return tuple(text.encode())
        except UnicodeEncodeError as error:
            raise RequestError("The text holds half a surrogate pair, which is not a character.", "messages") from error

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[int, ...]:
        """Return the bytes of a conversation's prompt."""
        return self.encode(self.render(messages, add_generation_prompt=add_generation_prompt, tools=tools))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids`; bytes that are no UTF-8 become U+FFFD."""
        return bytes(number for number in ids if number < 256).decode("utf-8", errors="replace")

    def stream(self) -> "ByteStream":
        """Return a decoder for one answer as it comes."""
        return ByteStream()


class ByteStream:
    """Decodes bytes one by one."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token_id: int) -> str:
        """Return the character that this byte completes."""
        return self._decoder.decode(bytes([token_id])) if token_id < 256 else ""

    def flush(self) -> str:
        """Return an incomplete character as U+FFFD."""
        return self._decoder.decode(b"", final=True)


def open_tokenizer(model: Model) -> Tokenizer:
    """Open a model's tokenizer, an adapter's from its base where it has none of its own."""
    for folder in (model.path, model.base):
        if folder is not None and (folder / "tokenizer.json").is_file():
            return ChatTokenizer.open(folder, model.base)
    if model.format == "echo":
        return ByteTokenizer(int(echo_options(model.path).get("context_length", 4096)))
    if model.format == "gguf" and model.path.is_file():
        raise ModelError(
            f"{model.path} has no tokenizer beside it that Vivace reads.",
            "Name it in models.base: there a GGUF file is converted.",
        )
    return ChatTokenizer.open(model.path)


def echo_options(folder: Path) -> dict[str, Any]:
    """Return what `echo.json` in a model folder says, empty when there is none."""
    path = folder / "echo.json"
    if not path.is_file():
        return {}
    try:
        options = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelError(f"{path} is not JSON: {error}.") from error
    if not isinstance(options, dict):
        raise ModelError(f"{path} holds no object.")
    return options
