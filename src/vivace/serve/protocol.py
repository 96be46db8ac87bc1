"""uvicorn's HTTP protocol with the bounds it lacks: time and size of a request's head."""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from vivace.serve.failures import ApiError

HEAD_DEADLINE_S = 15.0
MAX_HEAD_BYTES = 65_536


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection whose request head is late or too large, and refuses in OpenAI's error shape.

    Nothing bounds these below: the parser has no limits, and an idle connection is watched only after its first answer.
    """

    _head_timer: asyncio.TimerHandle | None = None
    _head_bytes = 0
    _in_head = True

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock: the first request's head must be there in time."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count the bytes of a head before they are parsed."""
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_timer is None:
                self._arm()
        super().data_received(data)
        if self._in_head and self._head_bytes > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refuse(
                ApiError(431, f"The request's head is larger than {MAX_HEAD_BYTES} bytes.", code="head_too_large")
            )

    def on_headers_complete(self) -> None:
        """Stop counting: what follows is a body."""
        self._disarm()
        self._in_head = False
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Expect the next head; what has come of it already is not counted."""
        super().on_message_complete()
        self._in_head = True
        self._head_bytes = 0

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP."""
        self._refuse(ApiError(400, msg, code="invalid_http"))

    def _refuse(self, error: ApiError) -> None:
        body = error.body()
        phrase = {400: b"Bad Request", 408: b"Request Timeout"}.get(error.status, b"Request Header Fields Too Large")
        self.transport.write(
            b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
            % (error.status, phrase, len(body), body)
        )
        self.transport.close()

    def _arm(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_DEADLINE_S, self._late)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _late(self) -> None:
        self._head_timer = None
        cycle = cast(Any, self.cycle)  # None until the first head is complete, whatever its annotation says
        if self.transport.is_closing() or (cycle is not None and not cycle.response_complete):
            return
        if self._head_bytes:
            self._refuse(
                ApiError(408, f"The request's head did not arrive within {HEAD_DEADLINE_S:.0f} s.", code="timeout")
            )
        else:
            self.transport.close()
