"""What every request passes before any work is done for it."""

import asyncio
import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vivace.serve.admission import Admission
from vivace.serve.failures import ApiError, ClientLeft, as_api_error, place, send_error, unavailable
from vivace.serve.keys import KeyRing

BODY_DEADLINE_S = 30.0
DISCARD_DEADLINE_S = 2.0
SPARE_OPEN_REQUESTS = 192  # requests being read or refused, besides those that hold room in the queue
OPEN_PATHS = frozenset({"/health"})

log = logging.getLogger("vivace.serve")


class Body:
    """A request's `receive` that knows whether the body has been read to its end."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self.complete = False

    async def __call__(self) -> Message:
        """Receive the next message."""
        message = await self._receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            self.complete = True
        return message


class Edge:
    """Checks host and key, bounds open requests, and turns any exception into OpenAI's error shape."""

    def __init__(self, app: ASGIApp, *, keys: KeyRing, admission: Admission) -> None:
        self._app = app
        self._keys = keys
        self._admission = admission
        self._open = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through to the application, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        body = Body(receive)
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        self._open += 1
        try:
            self._check(scope)
            await self._app(scope, body, watched)
        except ClientLeft:
            return
        except Exception as error:
            answer = as_api_error(error)
            if answer.status == 500:
                log.error("%s %s failed: %s", scope["method"], _known(scope["path"]), place(error))
            if not started:  # else the connection is closed, as the answer is not complete
                await send_error(send, answer, close=await _leaves_body_unread(scope, body))
        finally:
            self._open -= 1

    def _check(self, scope: Scope) -> None:
        headers: list[tuple[bytes, bytes]] = scope["headers"]
        if self._keys:
            if scope["path"] not in OPEN_PATHS:
                self._check_key([value for name, value in headers if name == b"authorization"])
        else:
            _check_host([value for name, value in headers if name == b"host"])
        if scope["path"] in OPEN_PATHS:
            return
        if self._admission.draining:
            raise unavailable("The server is shutting down.", "shutting_down")
        if self._open > self._admission.limit + SPARE_OPEN_REQUESTS:
            raise unavailable("The server has too many open requests; try again soon.", "overloaded")

    def _check_key(self, given: list[bytes]) -> None:
        scheme, _, key = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
        if scheme.lower() != b"bearer" or not key.strip():
            raise _unauthorized(
                "You didn't provide an API key. Send it in the header: Authorization: Bearer KEY.", None
            )
        if not self._keys.admits(key.strip()):
            raise _unauthorized("Incorrect API key provided.", "invalid_api_key")


def _unauthorized(message: str, code: str | None) -> ApiError:
    return ApiError(401, message, code=code, headers=((b"www-authenticate", b"Bearer"),))


def _check_host(given: list[bytes]) -> None:
    # A page that rebinds its own name to 127.0.0.1 sends that name as Host; without keys only ours are answered.
    host = given[0].decode("latin-1").lower() if len(given) == 1 else ""
    name, _, port = host.rpartition(":") if not host.endswith("]") else (host, "", "")
    bare = name if name and port.isdigit() else host
    if bare not in ("localhost", "127.0.0.1", "[::1]"):
        raise ApiError(
            403, "This server answers only to the hosts localhost, 127.0.0.1 and [::1].", code="host_not_allowed"
        )


def _known(path: str) -> str:
    return path if path.startswith("/v1/") and path.isascii() and path.isprintable() and len(path) < 64 else "a path"


def content_length(scope: Scope) -> int | None:
    """Return the announced size of the body in bytes."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return None


async def _leaves_body_unread(scope: Scope, body: Body) -> bool:
    headers = {name for name, _ in scope["headers"]}
    if body.complete or (b"transfer-encoding" not in headers and not content_length(scope)):
        return False
    if b"expect" not in headers:
        await discard(body)
    return not body.complete


async def discard(receive: Receive, limit_bytes: int = 8_000_000) -> None:
    """Read and forget the rest of a body: closing on unread bytes would reset the connection before the answer."""
    left = limit_bytes
    try:
        async with asyncio.timeout(DISCARD_DEADLINE_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body", False):
                    return
    except TimeoutError:
        return


async def read_body(scope: Scope, receive: Receive, limit_bytes: int) -> bytes:
    """Read a body of at most `limit_bytes`, chunked or not; raises `ApiError` 413 or 408, or `ClientLeft`."""
    too_large = ApiError(413, f"The request body is larger than {limit_bytes} bytes.", code="request_too_large")
    if (content_length(scope) or 0) > limit_bytes:
        raise too_large
    parts: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(BODY_DEADLINE_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                part: bytes = message.get("body", b"")
                size += len(part)
                if size > limit_bytes:
                    raise too_large
                parts.append(part)
                if not message.get("more_body", False):
                    return b"".join(parts)
    except TimeoutError:
        raise ApiError(
            408, f"The request body did not arrive within {BODY_DEADLINE_S:.0f} s.", code="timeout"
        ) from None
