"""A conversation with a release in the terminal, through the same stack that is served."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

from vivace.chain import stack
from vivace.domain import Message, Progress, Request, Responder, Sampling, Usage
from vivace.engines import open_engine
from vivace.errors import RequestError
from vivace.loop.releases import find_release
from vivace.loop.serving import settings_at

QUIT = ("/quit", "/exit", "/q")


async def chat_with(
    start: Path, prefix: str, message: str, max_tokens: int, *, write: Callable[[str], None], progress: Progress
) -> None:
    """Answer `message`, or what is typed until /quit or the end of input."""
    with progress.task("Opening the release"):
        release = find_release(start, prefix)
        candidate = release.candidate
        opened = open_engine(candidate.engine, candidate.model, threads=settings_at(start).serve.threads)
        engine = await opened.__aenter__()
    try:
        responder = stack(engine, candidate.chain)
        sampling = Sampling(max_tokens=max_tokens)
        if message:
            await _answer(responder, [Message("user", message)], sampling, write)
            return
        write(f"{release.name} {release.id[:12]}. /new begins anew, /quit leaves.\n")
        await _converse(responder, sampling, write)
    finally:
        await opened.__aexit__(None, None, None)


async def _converse(responder: Responder, sampling: Sampling, write: Callable[[str], None]) -> None:
    turns: list[Message] = []
    while True:
        write("\n> ")
        line = await asyncio.to_thread(sys.stdin.readline)
        words = line.strip()
        if not line or words in QUIT:
            return
        if words == "/new":
            turns = []
        elif words:
            turns.append(Message("user", words))
            try:
                turns.append(Message("assistant", await _answer(responder, turns, sampling, write)))
            except RequestError as error:
                turns.pop()
                write(f"{error}\n")


async def _answer(responder: Responder, turns: list[Message], sampling: Sampling, write: Callable[[str], None]) -> str:
    """Write an answer as it comes and return it."""
    text = ""
    usage: Usage | None = None
    loop = asyncio.get_running_loop()
    started = loop.time()
    request = Request(id=f"chat-{len(turns)}", messages=tuple(turns), sampling=sampling)
    async with aclosing(responder(request)) as chunks:
        async for chunk in chunks:
            text += chunk.text
            usage = chunk.usage or usage
            write(chunk.text)
    seconds = loop.time() - started
    rate = f", {usage.completion_tokens / seconds:.0f} tokens/s" if usage and seconds > 0 else ""
    write(f"\n[{seconds:.1f} s{rate}]\n")
    return text
