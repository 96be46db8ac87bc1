"""An engine whose answers are written in the prompt, and a real server around it."""

import asyncio
import http.client
import json
import socket
import threading
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.applications import Starlette

from vivace.config.settings import ServeSettings
from vivace.domain import Chunk, Model, Request, Usage
from vivace.engines import ProcessEngine, open_engine
from vivace.errors import EngineDied, Overloaded, RequestError
from vivace.serve.app import admission_of, create_app
from vivace.serve.server import DrainingServer, bind, server_config

MODEL = "shop-support"


class ScriptedEngine:
    """Echoes the last message word by word; a first word such as `slow` or `die` asks for something else."""

    name = "scripted"
    context_length = 2048

    def __init__(self) -> None:
        self.alive = True
        self.active = 0
        self.seen: list[Request] = []

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        self.seen.append(request)
        words = request.messages[-1].content.split(" ")
        self.active += 1
        try:
            await self._misbehave(words[0])
            count = request.sampling.max_tokens if words[0] == "slow" else len(words)
            sent = 0
            for sent in range(1, min(count, request.sampling.max_tokens) + 1):
                if words[0] == "slow":
                    await asyncio.sleep(0.02)
                if words[0] == "crash-midway" and sent == 3:
                    self.alive = False
                    raise EngineDied("gone")
                yield Chunk(text=("" if sent == 1 else " ") + words[(sent - 1) % len(words)], token_ids=(sent,))
            reason = "length" if words[0] == "slow" or sent < count else "stop"
            yield Chunk(finish_reason=reason, usage=Usage(len(words) + 3, sent, 2))
        finally:
            self.active -= 1

    async def _misbehave(self, word: str) -> None:
        await asyncio.sleep(0)
        if word == "silent":
            await asyncio.sleep(60)
        if word == "die":
            self.alive = False
            raise EngineDied("gone")
        if word == "too-long":
            raise RequestError("At most 2048 tokens fit.", "messages", "context_length_exceeded")
        if word == "busy":
            raise Overloaded("No room.", 7.2)
        if word == "bug":
            raise ValueError("my card number is 4111-1111")


def app_of(engine: Any, *, keys: tuple[str, ...] = (), **settings: Any) -> Starlette:
    return create_app(engine, engine, ServeSettings(**settings), model_name=MODEL, release_id="rel-1", keys=keys)


def chat_head(body: bytes, *more: str) -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: localhost", "Content-Type: application/json", *more]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", "", ""]).encode()


class Served:
    """A running server."""

    def __init__(self, url: str, app: Starlette, stop: Callable[[], None], thread: threading.Thread) -> None:
        self.url = url
        self.host, self.port = urlsplit(url).hostname or "", urlsplit(url).port or 0
        self.admission = admission_of(app)
        self.stop = stop
        self.thread = thread

    def request(
        self, method: str, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, Any], dict[str, str]]:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=20)
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            content = response.read()
            names = {name.lower(): value for name, value in response.getheaders()}
            return response.status, json.loads(content) if content else {}, names
        finally:
            connection.close()

    def chat(self, **fields: Any) -> tuple[int, dict[str, Any], dict[str, str]]:
        call = {"model": MODEL, "messages": [{"role": "user", "content": "hello there"}], **fields}
        return self.raw_chat(json.dumps(call).encode())

    def raw_chat(self, body: bytes, **headers: str) -> tuple[int, dict[str, Any], dict[str, str]]:
        return self.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json", **headers})

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=10)

    def send_chat(self, **fields: Any) -> socket.socket:
        """Send a request on a socket of its own and return it without reading."""
        call = json.dumps({"model": MODEL, "messages": [{"role": "user", "content": "slow"}], **fields}).encode()
        client = self.connect()
        client.sendall(chat_head(call) + call)
        return client


@contextmanager
def serving(app: Starlette, drain_s: float = 5.0) -> Iterator[Served]:
    """Run the application on a free port in a thread, with the server that `vivace serve` uses."""
    ready = threading.Event()
    loops: list[asyncio.AbstractEventLoop] = []
    with bind("127.0.0.1", 0) as listener:
        server = DrainingServer(server_config(app), admission_of(app), ready.set, drain_s)

        async def serve() -> None:
            loops.append(asyncio.get_running_loop())
            await server.serve(sockets=[listener])

        thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        thread.start()
        assert ready.wait(10)

        def stop() -> None:
            loops[0].call_soon_threadsafe(server.stop)

        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        served = Served(url, app, stop, thread)
        try:
            yield served
        finally:
            if thread.is_alive():
                loops[0].call_soon_threadsafe(served.admission.expire)
                stop()
            thread.join(15)
            assert not thread.is_alive()


def with_echo(
    model: Path, options: dict[str, Any], story: Callable[[ProcessEngine, int], Coroutine[Any, Any, None]]
) -> None:
    """Run a story with the real echo engine behind a server in the same loop; it is given the engine and the port."""

    async def run() -> None:
        ready = asyncio.Event()
        with bind("127.0.0.1", 0) as listener:
            async with open_engine("echo", Model("echo", model, "echo", "none"), options=options) as engine:
                app = app_of(engine)
                server = DrainingServer(server_config(app), admission_of(app), ready.set)
                running = asyncio.create_task(server.serve(sockets=[listener]))
                await ready.wait()
                await story(engine, listener.getsockname()[1])
                server.stop()
                await running

    asyncio.run(run())


def wait_until(condition: Callable[[], bool], seconds: float = 5.0) -> float:
    """Return how long it took until `condition` held."""
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < seconds, "it never came true"
        time.sleep(0.005)
    return time.monotonic() - started


def read_all(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(65536):
        parts.append(part)
    return b"".join(parts)
