"""The layer that puts the system prompt first."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec.structs import replace

from vivace.domain import Chunk, Layer, Message, Request, Responder


def system(prompt: str) -> Layer:
    """Return a layer that begins conversations with `prompt`, unless they bring a system prompt of their own."""

    def layer(inner: Responder) -> Responder:
        async def respond(request: Request) -> AsyncGenerator[Chunk, None]:
            async with aclosing(inner(replace(request, messages=with_system(request.messages, prompt)))) as chunks:
                async for chunk in chunks:
                    yield chunk

        return respond

    return layer


def with_system(messages: tuple[Message, ...], prompt: str) -> tuple[Message, ...]:
    """Return the turns with `prompt` as the system's before them, if it is not empty and they have none."""
    if not prompt or any(message.role in ("system", "developer") for message in messages):
        return messages
    return (Message("system", prompt), *messages)
