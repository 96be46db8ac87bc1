"""A provider on this machine: real HTTP, both protocols, and it misbehaves by script.

Each request takes the next act of the script; the last one stays. `seen` are the requests, `left` when clients closed.
"""

import asyncio
import gzip
import json
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

WORDS = ("Good", " morning", ", Zoë", " 🙂.")
ANSWER = "".join(WORDS)


@dataclass
class Seen:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    at: float


class Exchange:
    """One request and the raw connection for its response."""

    def __init__(self, provider: "Provider", seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self.provider = provider
        self.seen = seen
        self.reader = reader
        self.writer = writer
        self.closing = False

    async def raw(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {kind}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        await self.raw(("\r\n".join(lines) + "\r\n\r\n").encode())

    async def begin(self, **headers: str) -> None:
        await self.head(Transfer_Encoding="chunked", **headers)

    async def piece(self, data: bytes) -> None:
        await self.raw(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    async def end(self) -> None:
        await self.raw(b"0\r\n\r\n")

    async def event(self, value: Any, name: str = "") -> None:
        await self.piece(sse(value, name))

    async def whole(self, value: Any, status: int = 200, kind: str = "application/json", **headers: str) -> None:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        await self.head(status, kind, Content_Length=str(len(data)), **headers)
        await self.raw(data)

    async def hang(self) -> None:
        """Say nothing more until the client has left."""
        while await self.reader.read(1000):
            pass
        self.provider.left.append(asyncio.get_running_loop().time())
        self.closing = True

    def drop(self) -> None:
        self.writer.transport.abort()
        self.closing = True


Act = Callable[[Exchange], Awaitable[None]]


@dataclass
class Provider:
    script: list[Act]
    url: str = ""
    seen: list[Seen] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    connections: int = 0
    at_once: int = 0
    most_at_once: int = 0
    tasks: set["asyncio.Task[Any]"] = field(default_factory=set)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        try:
            while (seen := await _read(reader)) is not None:
                self.seen.append(seen)
                act = self.script.pop(0) if len(self.script) > 1 else self.script[0]
                exchange = Exchange(self, seen, reader, writer)
                self.at_once += 1
                self.most_at_once = max(self.most_at_once, self.at_once)
                try:
                    await act(exchange)
                finally:
                    self.at_once -= 1
                if exchange.closing:
                    break
        except (ConnectionError, asyncio.IncompleteReadError):
            self.left.append(asyncio.get_running_loop().time())
        except asyncio.CancelledError:
            return  # the test is over
        finally:
            self.tasks.discard(task)
            writer.close()


@asynccontextmanager
async def provider(*script: Act) -> AsyncGenerator[Provider, None]:
    """Run a provider; its address is `url`."""
    made = Provider(list(script))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield made
    finally:
        server.close()
        for task in list(made.tasks):
            task.cancel()
        await asyncio.gather(*made.tasks, return_exceptions=True)


async def _read(reader: asyncio.StreamReader) -> Seen | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    body = await reader.readexactly(int(headers.get("content-length", 0)))
    return Seen(first.split(" ")[1], headers, json.loads(body or b"{}"), asyncio.get_running_loop().time())


def sse(value: Any, name: str = "") -> bytes:
    data = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return (f"event: {name}\n" if name else "").encode() + f"data: {data}\n\n".encode()


def chunk(delta: dict[str, Any] | None, finish: str | None = None, **more: Any) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}]
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_760_000_000, "model": "gpt-4o"}
    return head | {"choices": choices} | more


USAGE = {"prompt_tokens": 11, "completion_tokens": 4, "total_tokens": 15, "prompt_tokens_details": {"cached_tokens": 3}}


def openai_events(
    words: tuple[str, ...] = WORDS, finish: str = "stop", usage: dict[str, Any] | None = USAGE
) -> list[bytes]:
    """Return the events of an answer as OpenAI sends them: the role alone first, the usage after the end."""
    values = [chunk({"role": "assistant", "content": "", "refusal": None})]
    values += [chunk({"content": word}) for word in words]
    values.append(chunk({}, finish))
    if usage:
        values.append(chunk(None, usage=usage))
    return [sse(value) for value in values] + [b"data: [DONE]\n\n"]


def anthropic_events(words: tuple[str, ...] = WORDS, stop: str = "end_turn") -> list[bytes]:
    """Return the events of an answer as Anthropic sends them."""
    usage = {"input_tokens": 9, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 2, "output_tokens": 1}
    start = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "usage": usage}
    values: list[dict[str, Any]] = [
        {"type": "message_start", "message": start | {"stop_reason": None, "stop_sequence": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}} for word in words),
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": stop, "stop_sequence": None},
            "usage": {"output_tokens": 6},
        },
        {"type": "message_stop"},
    ]
    return [sse(value, str(value["type"])) for value in values]


def streams(events: list[bytes], *, then: str = "end", pause_s: float = 0.0, cut: int = 0) -> Act:
    """Return the act that streams events; `then` is end, hang, drop or close; `cut` sends pieces of so many bytes."""

    async def act(exchange: Exchange) -> None:
        await exchange.begin()
        data = b"".join(events)
        pieces = [data[at : at + cut] for at in range(0, len(data), cut)] if cut else events
        for piece in pieces:
            await exchange.piece(piece)
            if pause_s or cut:
                await asyncio.sleep(pause_s)
        await _then(exchange, then)

    return act


async def _then(exchange: Exchange, then: str) -> None:
    if then == "hang":
        await exchange.hang()
    elif then == "drop":
        exchange.drop()
    else:
        await exchange.end()


def answers(value: Any, status: int = 200, kind: str = "application/json", **headers: str) -> Act:
    """Return the act that answers in one piece."""

    async def act(exchange: Exchange) -> None:
        await exchange.whole(value, status, kind, **headers)

    return act


def completion(text: str = ANSWER, finish: str = "stop", **more: Any) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": "gpt-4o",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": finish}],
        "usage": USAGE,
    } | more


async def hangs(exchange: Exchange) -> None:
    """Take the request and say nothing."""
    await exchange.hang()


async def hangs_after_headers(exchange: Exchange) -> None:
    await exchange.begin()
    await exchange.hang()


async def keeps_alive(exchange: Exchange) -> None:
    """Send comments for ever, and no token."""
    await exchange.begin()
    while True:
        await exchange.piece(b": keep-alive\n\n")
        await asyncio.sleep(0.01)


async def drops(exchange: Exchange) -> None:
    exchange.drop()


async def lies_about_its_length(exchange: Exchange) -> None:
    data = json.dumps(completion()).encode()
    await exchange.head(200, "application/json", Content_Length=str(len(data) + 100))
    await exchange.raw(data[:-20])
    exchange.drop()


async def speaks_no_http(exchange: Exchange) -> None:
    await exchange.raw(b"220 mail.example.org ESMTP\r\n\r\n")
    exchange.drop()


async def floods(exchange: Exchange) -> None:
    await exchange.begin()
    while True:
        await exchange.piece(sse(chunk({"content": "so on and " * 1000})))


async def squeezes(exchange: Exchange) -> None:
    """Answer with gzip."""
    data = gzip.compress(b"".join(openai_events()))
    await exchange.begin(Content_Encoding="gzip")
    for at in range(0, len(data), 7):
        await exchange.piece(data[at : at + 7])
    await exchange.end()


fine = streams(openai_events())
claude = streams(anthropic_events())


@contextmanager
def serving(*script: Act) -> Iterator[str]:
    """Run a provider on a loop of its own, for those who have a loop themselves, and yield its address."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    context = provider(*script)

    def on_loop(work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(30)

    server = on_loop(context.__aenter__())
    try:
        yield server.url
    finally:
        on_loop(context.__aexit__(None, None, None))
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
