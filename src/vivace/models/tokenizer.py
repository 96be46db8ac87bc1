"""Text to token ids and back, and conversations to prompts, without torch and transformers."""

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from tokenizers import Tokenizer

from vivace.domain import Message
from vivace.errors import ModelError, RequestError
from vivace.models.template import ChatTemplate

_SPECIALS = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")


class ChatTokenizer:
    """The tokenizer and chat template of a model folder."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        template: ChatTemplate | None,
        eos_ids: frozenset[int],
        context_length: int,
        origin: str,
    ) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self._template = template
        self._origin = origin
        self.eos_ids = eos_ids
        self.context_length = context_length

    @classmethod
    def open(cls, folder: Path, base: Path | None = None) -> Self:
        """Open a folder with `tokenizer.json`, an adapter's with its `base`; raises `ModelError` for a broken part."""
        path = folder / "tokenizer.json"
        if not path.is_file():
            raise ModelError(
                f"{folder} has no tokenizer.json.", "Save it with a fast tokenizer (transformers' default)."
            )
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{path} cannot be read: {error}.") from error
        special = _special_tokens(folder)
        source = _template_source(folder)
        template = None if source is None else ChatTemplate(source, origin=str(folder), variables=special)
        if template is not None:
            _try_out(template)
        return cls(
            tokenizer,
            template=template,
            eos_ids=_eos_ids(folder, tokenizer, special),
            context_length=context_length(folder, base),
            origin=str(folder),
        )

    @cached_property
    def vocab_size(self) -> int:
        """The number of tokens, added ones included."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    @property
    def template(self) -> str:
        """The source of the chat template, empty when the model has none."""
        return "" if self._template is None else self._template.source

    def render(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> str:
        """Return the prompt of a conversation as the model was trained to read it.

        A developer's message is rendered as the system's: templates know only that word. Raises `RequestError` when
        the template refuses the messages, `ModelError` when it is missing or broken.
        """
        if self._template is None:
            raise ModelError(
                f"{self._origin} has no chat template.", "Use a model tuned for chat (often named -instruct)."
            )
        turns = [_as_turn(message) for message in messages]
        return self._template.render(turns, add_generation_prompt=add_generation_prompt, tools=tools)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of `text`; no token is added, special tokens written in it count as such."""
        try:
            return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)
        except (UnicodeEncodeError, TypeError) as error:
            raise RequestError("The text holds half a surrogate pair, which is not a character.", "messages") from error

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[int, ...]:
        """Return the ids of a conversation's prompt; a beginning-of-text token comes from the template alone."""
        return self.encode(self.render(messages, add_generation_prompt=add_generation_prompt, tools=tools))

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of `ids` without special tokens; bytes that are no UTF-8 become U+FFFD."""
        return str(self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def token_id(self, token: str) -> int | None:
        """Return the id of a token such as `<|im_start|>`, None when the vocabulary lacks it."""
        number = self._tokenizer.token_to_id(token)
        return None if number is None else int(number)

    def stream(self) -> "Decoder":
        """Return a decoder for one answer as it comes."""
        return Decoder(self)


class Decoder:
    """Turns token ids into text one by one; what it returns, joined, is what `decode` returns for all ids."""

    def __init__(self, tokenizer: ChatTokenizer) -> None:
        self._tokenizer = tokenizer
        # `ids` is a window: its first `read` ids are already told, and are there so that the next ones are decoded in
        # context (some decoders drop the space before a first word).
        self._ids: list[int] = []
        self._read = 0
        self._told = ""

    def push(self, token_id: int) -> str:
        """Return the text that `token_id` completes; empty while a character is still incomplete."""
        self._ids.append(token_id)
        text = self._tokenizer.decode(self._ids)
        # U+FFFD at the end may be the beginning of a character whose other bytes come with the next tokens.
        if len(text) <= len(self._told) or text.endswith("\ufffd"):
            return ""
        return self._tell(text)

    def flush(self) -> str:
        """Return what is left at the end of the answer: an incomplete character as U+FFFD."""
        text = self._tokenizer.decode(self._ids)
        return self._tell(text) if len(text) > len(self._told) else ""

    def _tell(self, text: str) -> str:
        new = text[len(self._told) :]
        self._ids = self._ids[self._read :]
        self._read = len(self._ids)
        self._told = self._tokenizer.decode(self._ids)
        return new


def context_length(folder: Path, base: Path | None = None) -> int:
    """Return the most tokens a model can hold, as its folder says; raises `ModelError` when it does not say.

    `base` is the folder of an adapter's base where that is known: what an adapter calls it may be a name.
    """
    for path in (folder, *([base] if base is not None else _adapter_base(folder))):
        config = read_json(path / "config.json")
        for table in (config, config.get("text_config")):
            for key in _CONTEXT_KEYS:
                value = table.get(key) if isinstance(table, dict) else None
                if isinstance(value, int) and value > 0:
                    return value
        genai = read_json(path / "genai_config.json").get("model")
        if isinstance(genai, dict) and isinstance(genai.get("context_length"), int):
            return int(genai["context_length"])
    raise ModelError(f"{folder} does not say how long its context is.", "config.json needs max_position_embeddings.")


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file, empty when there is no such file; raises `ModelError` when it is broken."""
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: {error}.") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object.")
    return value


def _adapter_base(folder: Path) -> list[Path]:
    base = read_json(folder / "adapter_config.json").get("base_model_name_or_path")
    return [folder / str(base)] if base else []


def _special_tokens(folder: Path) -> dict[str, str]:
    tables = [read_json(folder / name) for name in ("special_tokens_map.json", "tokenizer_config.json")]
    found: dict[str, str] = {}
    for table in tables:
        for name in _SPECIALS:
            token = table.get(name)
            text = token.get("content") if isinstance(token, dict) else token
            if isinstance(text, str):
                found[name] = text
    return found


def _template_source(folder: Path) -> str | None:
    path = folder / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ModelError(f"{path} cannot be read: {error}.") from error
    written = read_json(folder / "tokenizer_config.json").get("chat_template")
    if isinstance(written, list):
        # Several named templates: `default` is the one for plain conversations.
        named = {item.get("name"): item.get("template") for item in written if isinstance(item, dict)}
        written = named.get("default")
    return written if isinstance(written, str) else None


def _try_out(template: ChatTemplate) -> None:
    """Render one question: a template that hangs or fails is found when the model is opened, not when it serves."""
    with suppress(RequestError):
        template.render([{"role": "user", "content": "Hello"}], add_generation_prompt=True, tools=())


def _eos_ids(folder: Path, tokenizer: Tokenizer, special: Mapping[str, str]) -> frozenset[int]:
    found: set[int] = set()
    for name in ("generation_config.json", "config.json"):
        value = read_json(folder / name).get("eos_token_id")
        found.update(number for number in (value if isinstance(value, list) else [value]) if isinstance(number, int))
    number = tokenizer.token_to_id(special["eos_token"]) if "eos_token" in special else None
    if number is not None:
        found.add(number)
    return frozenset(found)


def _as_turn(message: Message) -> dict[str, Any]:
    turn: dict[str, Any] = {
        "role": "system" if message.role == "developer" else message.role,
        "content": message.content,
    }
    if message.name is not None:
        turn["name"] = message.name
    if message.tool_call_id is not None:
        turn["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": call.type,
                "function": {"name": call.function.name, "arguments": _arguments(call.function.arguments)},
            }
            for call in message.tool_calls
        ]
    return turn


def _arguments(text: str) -> Any:
    """Templates print arguments with `tojson`, so an object is what they want; anything else stays the text it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text
