"""The body of an answer as JSON objects: server-sent events wherever the network cuts them, or one object.

https://html.spec.whatwg.org/multipage/server-sent-events.html
"""

from collections.abc import Iterator
from typing import Any

import msgspec

MAX_EVENT_BYTES = 4_000_000
MAX_WHOLE_BYTES = 16_000_000


class Garbled(Exception):
    """A body that nobody can read: what the server did, and whether another attempt may give a better one."""

    def __init__(self, what: str, *, may_pass: bool = True) -> None:
        super().__init__(what)
        self.what = what
        self.may_pass = may_pass


class Body:
    """Takes bytes as they come and gives JSON objects; what it is shows in its first character, whatever its type.

    `done` says that the server called its stream complete, `whole` that the answer came in one piece. What cannot be
    read raises `Garbled`.
    """

    def __init__(self) -> None:
        self.done = False
        self.whole = False
        self._begun = False
        self._events = EventStream()
        self._parts: list[bytes] = []
        self._size = 0

    def push(self, piece: bytes) -> Iterator[dict[str, Any]]:
        """Give the objects that `piece` completes."""
        if not self._begun and (start := piece.lstrip(b"\xef\xbb\xbf \t\r\n")[:1]):
            self._begun = True
            self.whole = start in b"{["
            if start == b"<":
                raise Garbled("answered with a web page instead of JSON", may_pass=False)
        if self.whole:
            self._parts.append(piece)
            self._size += len(piece)
            if self._size > MAX_WHOLE_BYTES:
                raise Garbled(f"sent an answer of more than {MAX_WHOLE_BYTES:,} bytes", may_pass=False)
            return
        for data in self._events.push(piece):
            yield from self._read(data)

    def end(self) -> Iterator[dict[str, Any]]:
        """Give what is left when the body has ended."""
        if self.whole:
            yield _as_object(b"".join(self._parts), "broke off its answer, or sent one that is not JSON")
        elif (data := self._events.flush()) is not None:
            yield from self._read(data, "broke off its answer in the middle of an event")

    def _read(self, data: str, otherwise: str = "sent an event that is not JSON") -> Iterator[dict[str, Any]]:
        if self.done or not data.strip():
            return
        if data.strip() == "[DONE]":
            self.done = True
            return
        yield _as_object(data.encode(), otherwise)


def _as_object(data: bytes, otherwise: str) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(data)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Garbled(otherwise)
    return value


class EventStream:
    """Takes bytes as they come and gives the data of each complete event."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._begun = False

    def push(self, piece: bytes) -> Iterator[str]:
        """Give the data of the events that `piece` completes; raises `Garbled` for what is no text."""
        self._rest += piece
        if not self._begun and len(self._rest) >= 3:
            self._begun = True
            self._rest = self._rest.removeprefix(b"\xef\xbb\xbf")
        while (line := self._line()) is not None:
            if (data := self._take(line)) is not None:
                yield data
        if len(self._rest) + self._size > MAX_EVENT_BYTES:
            raise Garbled(f"sent an event of more than {MAX_EVENT_BYTES:,} bytes", may_pass=False)

    def flush(self) -> str | None:
        """Return what an event without its empty line holds: some servers end without one."""
        rest, self._rest = self._rest.rstrip(b"\r"), b""
        return self._take(rest) or self._event()

    def _line(self) -> bytes | None:
        """Return the next line that has come to its end: LF, CR LF or CR."""
        feed, back = self._rest.find(b"\n"), self._rest.find(b"\r")
        if back >= 0 and (feed < 0 or back < feed):
            if back + 1 == len(self._rest):
                return None  # its LF may be on the way
            size = 2 if feed == back + 1 else 1
            line, self._rest = self._rest[:back], self._rest[back + size :]
            return line
        if feed < 0:
            return None
        line, self._rest = self._rest[:feed], self._rest[feed + 1 :]
        return line

    def _take(self, line: bytes) -> str | None:
        if not line:
            return self._event()
        name, _, value = line.partition(b":")
        if name == b"data":
            self._data.append(value.removeprefix(b" "))
            self._size += len(value)
        return None

    def _event(self) -> str | None:
        if not self._data:
            return None
        data, self._data, self._size = b"\n".join(self._data), [], 0
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise Garbled("sent an event that is not UTF-8 text") from None
