"""POST /v1/chat/completions, streamed or in one piece."""

import asyncio
import logging
import time
import uuid

from msgspec import UNSET
from starlette.types import Message, Receive, Scope, Send

from vivace.domain import Responder, Usage
from vivace.serve.admission import Admission
from vivace.serve.edge import read_body
from vivace.serve.failures import ApiError, ClientLeft, as_api_error, place, send_json
from vivace.serve.v1.feed import Feed, Piece
from vivace.serve.v1.parse import ChatCall, Limits, parse_chat
from vivace.serve.v1.wire import (
    AnswerMessage,
    ChatCompletion,
    ChatCompletionChunk,
    Choice,
    ChunkChoice,
    CompletionUsage,
    Delta,
    encode,
    total_usage,
)

SEND_DEADLINE_S = 30.0  # a client that does not read for so long has left
STREAM_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache"),
    (b"x-accel-buffering", b"no"),
]

log = logging.getLogger("vivace.serve")


class ChatEndpoint:
    """Answers chat completions with one responder."""

    def __init__(
        self,
        responder: Responder,
        admission: Admission,
        limits: Limits,
        *,
        max_body_bytes: int,
        fingerprint: str,
    ) -> None:
        self._responder = responder
        self._admission = admission
        self._limits = limits
        self._max_body_bytes = max_body_bytes
        self._fingerprint = fingerprint

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one call."""
        self._admission.check()  # before reading anything
        _check_content_type(scope)
        body = await read_body(scope, receive, self._max_body_bytes)
        call = parse_chat(body, self._limits, f"chatcmpl-{uuid.uuid4().hex}")
        del body
        with self._admission.enter(len(call.requests)):
            async with Feed(self._responder, call.requests, receive, self._admission) as feed:
                if call.stream:
                    await self._stream(call, feed, send)
                    return
                answer = await self._collect(call, feed)
        await send_json(send, 200, encode(answer))

    async def _collect(self, call: ChatCall, feed: Feed) -> ChatCompletion:
        created = int(time.time())
        texts: list[list[str]] = [[] for _ in call.requests]
        finished: dict[int, Choice] = {}
        usages: dict[int, Usage | None] = {}
        while batch := await feed.batch():
            for index, chunk in batch:
                texts[index].append(chunk.text)
                if chunk.finish_reason in ("stop", "length"):
                    message = AnswerMessage(content="".join(texts[index]))
                    finished[index] = Choice(index=index, message=message, finish_reason=chunk.finish_reason)
                    usages[index] = chunk.usage
        return ChatCompletion(
            id=call.id,
            created=created,
            model=call.requests[0].model,
            choices=tuple(finished[index] for index in sorted(finished)),
            usage=total_usage([usages[index] for index in sorted(usages)]),
            system_fingerprint=self._fingerprint,
        )

    async def _stream(self, call: ChatCall, feed: Feed, send: Send) -> None:
        events = _Events(call, self._fingerprint)
        # The status waits for the first piece: until then a failure can still have a status of its own.
        first = await feed.batch()
        await _send_within(send, {"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        try:
            await _send_part(send, events.opening() + events.pieces(first))
            while batch := await feed.batch():
                await _send_part(send, events.pieces(batch))
            ending = events.ending()
        except ClientLeft:
            raise
        except Exception as error:
            answer = as_api_error(error)
            if answer.status == 500:
                log.error("A stream failed: %s", place(error))
            ending = b"data: " + answer.body() + b"\n\n"
        await _send_within(send, {"type": "http.response.body", "body": ending, "more_body": False})


class _Events:
    """The server-sent events of one call."""

    def __init__(self, call: ChatCall, fingerprint: str) -> None:
        self._call = call
        self._created = int(time.time())
        self._fingerprint = fingerprint
        self._usages: dict[int, Usage | None] = {}

    def opening(self) -> bytes:
        """Say that each answer is the assistant's."""
        delta = Delta(role="assistant", content="", refusal=None)
        return b"".join(self._event(ChunkChoice(index=index, delta=delta)) for index in range(len(self._call.requests)))

    def pieces(self, batch: list[Piece]) -> bytes:
        """Write each piece of text and each end."""
        events = []
        for index, chunk in batch:
            if chunk.text:
                events.append(self._event(ChunkChoice(index=index, delta=Delta(content=chunk.text))))
            if chunk.finish_reason in ("stop", "length"):
                self._usages[index] = chunk.usage
                events.append(self._event(ChunkChoice(index=index, delta=Delta(), finish_reason=chunk.finish_reason)))
        return b"".join(events)

    def ending(self) -> bytes:
        """Write the usage, if it was asked for, and the end of the stream."""
        if not self._call.include_usage:
            return b"data: [DONE]\n\n"
        usage = total_usage([self._usages[index] for index in sorted(self._usages)])
        return self._event(usage=usage or None) + b"data: [DONE]\n\n"

    def _event(self, *choices: ChunkChoice, usage: CompletionUsage | None = None) -> bytes:
        chunk = ChatCompletionChunk(
            id=self._call.id,
            created=self._created,
            model=self._call.requests[0].model,
            choices=choices,
            system_fingerprint=self._fingerprint,
            usage=usage if self._call.include_usage else UNSET,
        )
        return b"data: " + encode(chunk) + b"\n\n"


async def _send_part(send: Send, body: bytes) -> None:
    if body:
        await _send_within(send, {"type": "http.response.body", "body": body, "more_body": True})


async def _send_within(send: Send, message: Message) -> None:
    try:
        async with asyncio.timeout(SEND_DEADLINE_S):
            await send(message)
    except TimeoutError:
        raise ClientLeft from None


def _check_content_type(scope: Scope) -> None:
    # A browser page of another origin may post text/plain without asking first, but not JSON.
    headers: dict[bytes, bytes] = dict(scope["headers"])
    kind = headers.get(b"content-type", b"").split(b";")[0].strip().lower()
    if kind != b"application/json":
        raise ApiError(
            400, "Unsupported content type: send the header 'Content-Type: application/json'.",
            code="unsupported_content_type",
        )  # fmt: skip
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise ApiError(400, "Compressed request bodies are not supported.", code="unsupported_content_encoding")
