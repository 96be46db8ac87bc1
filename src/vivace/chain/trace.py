"""Ask once and keep what happened."""

from collections.abc import Callable
from contextlib import aclosing
from time import monotonic

from vivace.domain import Chunk, Message, Request, Responder, Trace


async def answer(
    responder: Responder, request: Request, clock: Callable[[], float] = monotonic, *, intended_at: float | None = None
) -> Trace:
    """Collect a whole answer with its times, in seconds of `clock`; errors of the responder are raised."""
    sent_at = clock()
    first_token_at: float | None = None
    parts: list[str] = []
    last: Chunk | None = None
    async with aclosing(responder(request)) as chunks:
        async for chunk in chunks:
            if first_token_at is None and (chunk.text or chunk.token_ids):
                first_token_at = clock()
            parts.append(chunk.text)
            last = chunk
    return Trace(
        request=request,
        answer=Message("assistant", "".join(parts)),
        finish_reason=last.finish_reason if last else None,
        usage=last.usage if last else None,
        intended_at=sent_at if intended_at is None else intended_at,
        sent_at=sent_at,
        first_token_at=first_token_at,
        finished_at=clock(),
    )
