"""The language between an engine's process and its parent: length-prefixed msgpack frames over pipes."""

from typing import Any, BinaryIO, Literal

import msgspec
from msgspec import Struct

from vivace.domain import Sampling

LENGTH_BYTES = 4
MAX_FRAME_BYTES = 256 * 1024 * 1024


class Load(Struct, frozen=True, tag="load"):
    """Open a model; the first frame a child reads. `folder` and `base` are absolute paths."""

    engine: str
    folder: str
    format: str
    threads: int
    max_batch: int
    prefix_cache: bool
    context_length: int
    vocab_size: int
    eos_ids: tuple[int, ...]
    base: str | None = None
    options: dict[str, Any] = {}


class Add(Struct, frozen=True, tag="add"):
    """Answer a prompt; `question_ids` are the last user message alone, for an engine that only repeats."""

    id: int
    prompt_ids: tuple[int, ...]
    sampling: Sampling
    question_ids: tuple[int, ...] = ()


class Cancel(Struct, frozen=True, tag="cancel"):
    """Stop working on a request at once; nothing is sent back for it."""

    id: int


class Score(Struct, frozen=True, tag="score"):
    """Tell the log-probability of each answer token."""

    id: int
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


class Ping(Struct, frozen=True, tag="ping"):
    """Show that the process is alive, and say for how long its loop has been in one step."""


class Stop(Struct, frozen=True, tag="stop"):
    """End the process."""


Command = Load | Add | Cancel | Score | Ping | Stop


class Ready(Struct, frozen=True, tag="ready"):
    """The model is open; `facts` says what was chosen, such as the arithmetic and the device."""

    load_s: float
    context_length: int
    facts: dict[str, Any] = {}


class Tokens(Struct, frozen=True, tag="tokens"):
    """New tokens of one answer, end-of-turn tokens left out; `finish` comes with the last ones."""

    id: int
    ids: tuple[int, ...]
    finish: Literal["stop", "length"] | None = None
    cached_tokens: int = 0


class Scored(Struct, frozen=True, tag="scored"):
    """The log-probabilities that a `Score` asked for; `greedy` says which tokens are the likeliest, if it is known."""

    id: int
    logprobs: list[float]
    greedy: list[bool] = []


class Failed(Struct, frozen=True, tag="failed"):
    """One request failed; without `id` it is the engine that failed, and its process ends."""

    id: int | None
    message: str
    hint: str = ""
    kind: Literal["engine", "model", "resource", "config"] = "engine"


class Pong(Struct, frozen=True, tag="pong"):
    """The answer to a ping, from a thread of its own; `step_s` is how long the loop has been in one step, 0 if idle."""

    step_s: float = 0.0


Event = Ready | Tokens | Scored | Failed | Pong

_encoder = msgspec.msgpack.Encoder()
_commands: msgspec.msgpack.Decoder[Command] = msgspec.msgpack.Decoder(Command)
_events: msgspec.msgpack.Decoder[Event] = msgspec.msgpack.Decoder(Event)


def to_frame(message: Command | Event) -> bytes:
    """Return the bytes to write: big-endian length, then msgpack."""
    body = _encoder.encode(message)
    return len(body).to_bytes(LENGTH_BYTES, "big") + body


def body_size(prefix: bytes) -> int:
    """Return how many bytes follow a prefix; raises `ValueError` for more than any frame may have."""
    size = int.from_bytes(prefix, "big")
    if size > MAX_FRAME_BYTES:
        raise ValueError(f"a frame of {size} bytes is announced, more than {MAX_FRAME_BYTES}")
    return size


def to_event(body: bytes) -> Event:
    """Decode what a child says."""
    return _events.decode(body)


def read_command(pipe: BinaryIO) -> Command | None:
    """Read what the parent says, None when it has closed the pipe or is gone."""
    prefix = pipe.read(LENGTH_BYTES)
    if len(prefix) < LENGTH_BYTES:
        return None
    size = body_size(prefix)
    body = pipe.read(size)
    return _commands.decode(body) if len(body) == size else None
