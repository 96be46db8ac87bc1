"""Bringing a dead engine back before a user needs it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Protocol

from vivace.domain import Chunk, Message, Request, Sampling
from vivace.errors import VivaceError

PROBE = Request("probe", (Message("user", "Hi"),), sampling=Sampling(max_tokens=1))


class EngineState(Protocol):
    """What the server needs of an engine: it starts its process again at the next request by itself."""

    name: str
    context_length: int

    @property
    def alive(self) -> bool:
        """Whether a request can be answered now."""
        ...

    def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Answer a request."""
        ...


class Revival:
    """Asks a dead engine one short question in the background, one at a time.

    Without it a load balancer that sends nothing to a sick server would keep it sick.
    """

    def __init__(self, engine: EngineState) -> None:
        self._engine = engine
        self._probing: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start, unless the engine is alive or being asked already."""
        if not self._engine.alive and (self._probing is None or self._probing.done()):
            self._probing = asyncio.create_task(self._probe())

    async def _probe(self) -> None:
        try:
            async with aclosing(self._engine(PROBE)) as chunks:
                async for _ in chunks:
                    pass
        except VivaceError:
            return  # it paces its own attempts; the next look at its health asks again
