"""The layer that makes a conversation fit by dropping its oldest turns."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec.structs import replace

from vivace.domain import Chunk, Layer, Message, Request, Responder
from vivace.engines import Tokenizer
from vivace.errors import RequestError

LONG_PROMPT_CHARS = 20_000  # rendering more than this is left to a thread, so that other answers go on


def trim(tokenizer: Tokenizer, context_length: int, *, max_prompt_tokens: int | None = None) -> Layer:
    """Return a layer that drops whole turns, oldest first, until prompt and answer fit into `context_length` tokens.

    System turns and everything from the last user turn on stay; raises `RequestError` (`context_length_exceeded`) when
    these alone are too long.
    """

    def layer(inner: Responder) -> Responder:
        async def respond(request: Request) -> AsyncGenerator[Chunk, None]:
            room = context_length - request.sampling.max_tokens
            room = room if max_prompt_tokens is None else min(room, max_prompt_tokens)
            if sum(len(message.content) for message in request.messages) < LONG_PROMPT_CHARS:
                kept = fit(tokenizer, request, room)
            else:
                kept = await asyncio.to_thread(fit, tokenizer, request, room)
            async with aclosing(inner(replace(request, messages=kept))) as chunks:
                async for chunk in chunks:
                    yield chunk

        return respond

    return layer


def fit(tokenizer: Tokenizer, request: Request, max_prompt_tokens: int) -> tuple[Message, ...]:
    """Return the turns that fit into `max_prompt_tokens` as the chat template renders them."""

    def length(kept: tuple[Message, ...]) -> int:
        return len(tokenizer.encode_chat(kept, tools=request.tools))

    messages = request.messages
    if length(messages) <= max_prompt_tokens:
        return messages
    # Conversations may start at any user turn; what answered a dropped turn goes with it.
    starts = [place for place, message in enumerate(messages) if message.role == "user"] or [max(0, len(messages) - 1)]
    shortest = _from(messages, starts[-1])
    if (least := length(shortest)) > max_prompt_tokens:
        raise RequestError(
            f"The conversation has {least} tokens even without its older turns; there is room for "
            f"{max(0, max_prompt_tokens)} beside an answer of {request.sampling.max_tokens}.",
            "messages",
            "context_length_exceeded",
        )
    # Bisect, so that a conversation of a thousand short turns is not rendered a thousand times: low is too long.
    low, high = -1, len(starts) - 1
    while high - low > 1:
        middle = (low + high) // 2
        if length(_from(messages, starts[middle])) <= max_prompt_tokens:
            high = middle
        else:
            low = middle
    return _from(messages, starts[high])


def _from(messages: tuple[Message, ...], start: int) -> tuple[Message, ...]:
    """Return the system's turns and all turns from `start` on."""
    return tuple(
        message for place, message in enumerate(messages) if place >= start or message.role in ("system", "developer")
    )
