"""An engine that died comes back, for the next request and for whoever looks at its health."""

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path

from tests.serve.fakes import with_echo
from vivace.domain import Chunk, Request
from vivace.engines import ProcessEngine
from vivace.errors import EngineDied
from vivace.serve.revival import Revival


def get(url: str, body: bytes | None = None) -> int:
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def asker(port: int) -> Callable[..., Awaitable[int]]:
    return lambda path, body=None: asyncio.to_thread(get, f"http://127.0.0.1:{port}{path}", body)


def chat(text: str) -> bytes:
    return b'{"model": "shop-support", "messages": [{"role": "user", "content": "%s"}]}' % text.encode()


def test_a_request_that_kills_the_engine_is_503_and_the_next_one_is_answered(tiny_model: Path) -> None:
    async def story(engine: ProcessEngine, port: int) -> None:
        ask = asker(port)
        first = engine.pid
        assert await ask("/v1/chat/completions", chat("hello")) == 200
        assert await ask("/v1/chat/completions", chat("crash now")) == 503
        assert await ask("/v1/chat/completions", chat("hello")) == 200
        assert engine.pid not in (None, first)
        assert engine.active == 0

    with_echo(tiny_model, {"crash_on": "crash now"}, story)


def test_a_look_at_the_health_of_a_dead_engine_brings_it_back(tiny_model: Path) -> None:
    async def story(engine: ProcessEngine, port: int) -> None:
        ask = asker(port)
        assert await ask("/health") == 200
        assert await ask("/v1/chat/completions", chat("crash now")) == 503
        assert await ask("/health") == 503
        async with asyncio.timeout(20):
            while await ask("/health") != 200:
                await asyncio.sleep(0.05)

    with_echo(tiny_model, {"crash_on": "crash now"}, story)


def test_many_looks_are_one_question() -> None:
    class Dead:
        name, context_length, alive, asked = "dead", 100, False, 0

        async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
            self.asked += 1
            await asyncio.sleep(0.05)
            raise EngineDied("still dead")
            yield Chunk()

    async def story() -> None:
        engine = Dead()
        revival = Revival(engine)
        for _ in range(5):
            revival.begin()
            await asyncio.sleep(0)
        await asyncio.sleep(0.1)
        assert engine.asked == 1
        revival.begin()
        await asyncio.sleep(0.1)
        assert engine.asked == 2
        engine.alive = True
        revival.begin()
        await asyncio.sleep(0)
        assert engine.asked == 2

    asyncio.run(story())
