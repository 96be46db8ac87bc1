"""What reaches the model: conversations go through the real layers, ids arrive at the engine's door."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct
from tokenizers import Tokenizer as Pieces

from vivace.chain import stack
from vivace.domain import Chunk, Example, Message, Request, Responder, Sampling, Usage
from vivace.engines import Tokenizer
from vivace.errors import ModelError, RequestError
from vivace.models import ChatTokenizer


class Rendering(Struct, frozen=True):
    """A conversation's prompt as token ids, or why it was refused; `messages` are the turns that were rendered."""

    ids: tuple[int, ...] = ()
    refused: str = ""
    messages: tuple[Message, ...] = ()


class Trained(Struct, frozen=True):
    """What training reads of a conversation: the prompt of its last answer, and that answer with its end."""

    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


Trainer = Callable[[Example, int | None], Trained | None]
"""Renders as training does, the prompt cut to so many tokens; None for what training leaves out."""


class Ask(Struct, frozen=True):
    """A conversation to render; `room` cuts its prompt to so many tokens, as one that does not fit is cut."""

    example: Example
    room: int | None = None

    @property
    def name(self) -> str:
        """What findings call it."""
        return self.example.id if self.room is None else f"{self.example.id} cut to {self.room} tokens"


class Expected(Struct, frozen=True):
    """What every hop must render, and the answer that the trainer learned after it; empty where it learned none."""

    ask: Ask
    rendering: Rendering
    answer_ids: tuple[int, ...] = ()


class Words:
    """A folder's tokens as texts, special ones included."""

    def __init__(self, folder: Path) -> None:
        try:
            self._pieces = Pieces.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # tokenizers raises bare Exception
            raise ModelError(f"{folder / 'tokenizer.json'} cannot be read: {error}.") from error

    def text(self, ids: Sequence[int]) -> str:
        """Return the text of `ids` with special tokens."""
        return str(self._pieces.decode(list(ids), skip_special_tokens=False))

    def piece(self, number: int) -> str:
        """Return the token of an id, `#id` where there is none."""
        return self._pieces.id_to_token(number) or f"#{number}"

    def specials(self) -> list[str]:
        """Return the special tokens."""
        added = self._pieces.get_added_tokens_decoder()
        return [token.content for _, token in sorted(added.items()) if token.special]

    def added(self) -> tuple[str, str]:
        """Return what the tokenizer adds before and after a text by itself, where a program lets it."""
        plain = self._pieces.encode("Hello", add_special_tokens=False).ids
        whole = self._pieces.encode("Hello", add_special_tokens=True).ids
        at = next((place for place in range(len(whole)) if whole[place : place + len(plain)] == plain), 0)
        return self.text(whole[:at]), self.text(whole[at + len(plain) :])

    def around(self, ids: Sequence[int], position: int) -> str:
        """Return the token at a position with a few before and after it, everything invisible written out."""
        return shown(self.text(ids[max(0, position - 4) : position + 6]))


def shown(text: str) -> str:
    """Return a text on one line with what cannot be seen written out."""
    told = (letter if letter.isprintable() else "⏎" if letter == "\n" else f"\\u{ord(letter):04x}" for letter in text)
    return "".join(told)


class Door:
    """An engine's door: notes the ids of each request that reaches it, and lets it in if there is an engine inside."""

    def __init__(self, name: str, tokenizer: Tokenizer, context_length: int, inside: Responder | None = None) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self.context_length = context_length
        self.inside = inside
        self.alive = True
        self.seen: list[Rendering] = []

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Note what came; answer with nothing where nobody is inside."""
        ids = self.tokenizer.encode_chat(request.messages, tools=request.tools)
        self.seen.append(Rendering(ids, messages=request.messages))
        if self.inside is None:
            yield Chunk(finish_reason="stop", usage=Usage(len(ids), 0))
            return
        async with aclosing(self.inside(request)) as chunks:
            async for chunk in chunks:
                yield chunk

    async def restart(self) -> None:
        """Do nothing: it never dies."""


def request_of(ask: Ask, context_length: int, max_tokens: int = 1) -> Request:
    """Return a request for the next answer; to be cut, it asks for so long an answer that only `room` is left."""
    asked = max_tokens if ask.room is None else max(1, context_length - ask.room)
    return Request(
        ask.example.id, ask.example.prompt, sampling=Sampling(max_tokens=asked), tools=tuple(ask.example.tools)
    )


async def render_stack(
    tokenizer: Tokenizer, context_length: int, chain: Mapping[str, Any], asks: Sequence[Ask]
) -> list[Rendering]:
    """Send each conversation through the layers of `chain` to a door and return what arrived there."""
    door = Door("door", tokenizer, context_length)
    responder = stack(door, chain)  # type: ignore[arg-type]  # it needs no likelihoods and no process
    return [await _through(responder, door, ask) for ask in asks]


async def _through(responder: Responder, door: Door, ask: Ask) -> Rendering:
    door.seen.clear()
    try:
        async with aclosing(responder(request_of(ask, door.context_length))) as chunks:
            async for _ in chunks:
                pass
    except (RequestError, ModelError) as error:
        return Rendering(refused=error.message)
    return door.seen[-1]


def expect(tokenizer: ChatTokenizer, system: str, trainer: Trainer, examples: Sequence[Example]) -> list[Expected]:
    """Return what the trainer reads of each conversation, and what it reads of the long ones cut short.

    What it leaves out is what its tokenizer makes of the turns, so that hops can still be compared.
    """
    made = []
    for example in examples:
        trained = trainer(example, None)
        if trained is None:
            made.append(Expected(Ask(example), _plainly(tokenizer, system, example)))
            continue
        most = tokenizer.context_length - 1  # what is longer is cut by itself
        if len(trained.prompt_ids) <= most:
            made.append(Expected(Ask(example), Rendering(trained.prompt_ids), trained.answer_ids))
            if not example.id.startswith("long "):
                continue
        room = min(most, max(8, len(trained.prompt_ids) * 3 // 5))
        cut = trainer(example, room)
        if cut is not None and cut.prompt_ids != trained.prompt_ids:
            made.append(Expected(Ask(example, room), Rendering(cut.prompt_ids), cut.answer_ids))
    return made


def _plainly(tokenizer: ChatTokenizer, system: str, example: Example) -> Rendering:
    turns = example.prompt
    if system and not any(turn.role in ("system", "developer") for turn in turns):
        turns = (Message("system", system), *turns)
    try:
        return Rendering(tokenizer.encode_chat(turns, tools=example.tools))
    except (RequestError, ModelError) as error:
        return Rendering(refused=error.message)


def as_turn(message: Message) -> dict[str, Any]:
    """Return a turn as other programs hand it to a template: arguments are objects, the developer is the system."""
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
            {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": _object(call)}}
            for call in message.tool_calls
        ]
    return turn


def _object(call: Any) -> Any:
    try:
        value = msgspec.json.decode(call.function.arguments)
    except msgspec.MsgspecError:
        return call.function.arguments
    return value if isinstance(value, dict) else call.function.arguments
