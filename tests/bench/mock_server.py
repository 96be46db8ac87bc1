"""A server of OpenAI's protocol whose timing is known: first token, tokens, stalls and misbehavior are set.

    python -m tests.bench.mock_server --ttft-ms 100 --gap-ms 20 --port 8123

Token n of an answer is sent at ttft + n x gap from its arrival, whatever the clock did in between, so that delays do
not add up. With `slots` only so many answers are in work, the others wait in a queue.
"""

import argparse
import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

MODEL = "mock"


@dataclass
class Timing:
    ttft_s: float = 0.1
    gap_s: float = 0.02
    tokens: int | None = None
    """Length of every answer; None: the request's `max_tokens`."""
    slots: int | None = None
    usage: bool = True
    key: str = ""
    models: tuple[str, ...] = (MODEL,)
    stalls: list[tuple[float, float]] = field(default_factory=list)
    """(from, to): seconds after the server's first completion request in which nothing is sent."""
    act: Callable[[int], str] = lambda _number: ""
    """What the server does to the request of this number: "", "break", "html", "500", "429" or "hang"."""


class MockServer:
    def __init__(self, timing: Timing) -> None:
        self.timing = timing
        self.url = ""
        self.seen: list[dict[str, Any]] = []
        self.in_work = self.most = self.left = 0
        self.started: float | None = None
        self._slots = asyncio.Semaphore(timing.slots or 1_000_000)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64_000_000)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/chat/completions", self.chat)
        return app

    async def models(self, request: web.Request) -> web.StreamResponse:
        if (refused := self._refused(request)) is not None:
            return refused
        return web.json_response({"object": "list", "data": [{"id": name} for name in self.timing.models]})

    def _refused(self, request: web.Request) -> web.Response | None:
        key = self.timing.key
        if key and request.headers.get("Authorization") != f"Bearer {key}":
            return web.json_response({"error": {"message": "wrong key", "type": "authentication_error"}}, status=401)
        return None

    async def chat(self, request: web.Request) -> web.StreamResponse:
        loop = asyncio.get_running_loop()
        arrived = loop.time()
        body = await request.json()
        if (refused := self._refused(request)) is not None:
            return refused
        if body["model"] not in self.timing.models:
            told = {"error": {"message": f"no model {body['model']}", "code": "model_not_found"}}
            return web.json_response(told, status=404)
        if self.started is None:
            self.started = arrived
        self.seen.append(body)
        act = self.timing.act(len(self.seen) - 1)
        if act == "html":
            return web.Response(text="<!doctype html><title>Welcome</title>", content_type="text/html")
        if act in ("500", "429"):
            return web.json_response({"error": {"message": "no room"}}, status=int(act))
        self.in_work += 1
        self.most = max(self.most, self.in_work)
        try:
            return await self._answer(request, body, arrived, act)
        except ConnectionResetError:
            self.left += 1
            return web.Response()
        except asyncio.CancelledError:
            self.left += 1
            raise
        finally:
            self.in_work -= 1

    async def _answer(self, request: web.Request, body: dict[str, Any], arrived: float, act: str) -> web.StreamResponse:
        loop, timing = asyncio.get_running_loop(), self.timing
        async with self._slots:
            begun = arrived if timing.slots is None else loop.time()
            count = timing.tokens or int(body.get("max_tokens") or 16)
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await self._until(begun + timing.ttft_s)
            await response.prepare(request)
            for number in range(count):
                await self._until(begun + timing.ttft_s + number * timing.gap_s)
                if act == "hang" and number:
                    await asyncio.sleep(3600)
                if act == "break" and number == count // 2:
                    assert request.transport is not None
                    request.transport.abort()
                    return response
                delta = {"role": "assistant"} if not number else {}
                await self._event(response, {"index": 0, "delta": delta | {"content": f" w{number}"}})
            await self._event(response, {"index": 0, "delta": {}, "finish_reason": "length"})
            if timing.usage and (body.get("stream_options") or {}).get("include_usage"):
                read = sum(len(str(turn["content"]).split()) for turn in body["messages"]) + 5
                usage = {"prompt_tokens": read, "completion_tokens": count, "total_tokens": read + count}
                await self._event(response, None, usage)
            await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
            return response

    async def _event(
        self, response: web.StreamResponse, choice: dict[str, Any] | None, usage: dict[str, int] | None = None
    ) -> None:
        data = {"id": "x", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
        data |= {"choices": [choice] if choice else []} | ({"usage": usage} if usage else {})
        await response.write(f"data: {json.dumps(data)}\n\n".encode())

    async def _until(self, moment: float) -> None:
        loop = asyncio.get_running_loop()
        assert self.started is not None
        for begin, end in self.timing.stalls:
            if self.started + begin <= max(moment, loop.time()) < self.started + end:
                moment = self.started + end
        await asyncio.sleep(max(0.0, moment - loop.time()))


@asynccontextmanager
async def mock_server(timing: Timing | None = None, port: int = 0) -> AsyncGenerator[MockServer, None]:
    """Run the server; its address is `url`."""
    server = MockServer(timing or Timing())
    runner = web.AppRunner(server.app(), handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port)
    await site.start()
    server.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    try:
        yield server
    finally:
        await runner.cleanup()


async def _serve(timing: Timing, port: int) -> None:
    async with mock_server(timing, port) as server:
        print(server.url, flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ttft-ms", type=float, default=100.0)
    parser.add_argument("--gap-ms", type=float, default=20.0)
    parser.add_argument("--slots", type=int, default=None)
    parser.add_argument("--port", type=int, default=0)
    chosen = parser.parse_args()
    asyncio.run(_serve(Timing(chosen.ttft_ms / 1e3, chosen.gap_ms / 1e3, slots=chosen.slots), chosen.port))
