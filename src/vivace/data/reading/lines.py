"""Lines of a text file, plain or compressed, one at a time and with their numbers."""

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from vivace.data.reading.unpacking import damage_told, unpacked
from vivace.errors import DataError

MAX_LINE_BYTES = 16 << 20
TOO_LONG = "the line is longer than 16 MiB"
_HEAD_BYTES = 1 << 16
_PEEK_CHARS = 4 << 20
_BOM = b"\xef\xbb\xbf"


class Lines:
    """The lines of `path` as text without their ends; iterate as often as needed, nothing is kept.

    Compression is told from the content. Lines are UTF-8; one that is not is read as Windows-1252 and counted
    in `repaired`. UTF-16 is told from its byte order mark or its zeros. A line over 16 MiB comes as None.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repaired = 0
        self._place: Callable[[], int] = lambda: 0

    def __iter__(self) -> Iterator[tuple[int, str | None]]:
        self.repaired = number = 0
        with damage_told(self.path, lambda: f"after line {number}"), open(self.path, "rb") as raw:
            self._place = raw.tell
            for number, line in enumerate(self._texts(unpacked(raw, self.path)), start=1):
                yield number, line

    def head(self, size: int = _HEAD_BYTES) -> bytes:
        """Return the first bytes, decompressed."""
        with damage_told(self.path, lambda: "at its start"), open(self.path, "rb") as raw:
            return unpacked(raw, self.path).read(size)

    def content(self, limit: int) -> str:
        """Return all of the text; raises `DataError` when it has more than `limit` bytes."""
        with damage_told(self.path, lambda: "before its end"), open(self.path, "rb") as raw:
            content = unpacked(raw, self.path).read(limit + 1)
        if len(content) > limit:
            raise DataError(
                f"{self.path} is one JSON value of more than {limit >> 20} MiB, which is read as a whole.",
                "Write it as JSON Lines: one object a line.",
            )
        if encoding := _utf16(content[:_HEAD_BYTES]):
            return content.decode(encoding, errors="replace").removeprefix("\ufeff")
        return self._decode(content.removeprefix(_BOM))

    def share_read(self) -> float:
        """Return about which share of the file has been read so far, while iterating."""
        return min(1.0, self._place() / max(1, self.path.stat().st_size))

    def _texts(self, stream: IO[bytes]) -> Iterator[str | None]:
        head = stream.readline(MAX_LINE_BYTES)
        if encoding := _utf16(head[:_HEAD_BYTES]):
            yield from _utf16_lines(_Joined(head, stream), encoding)
            return
        line = head.removeprefix(_BOM)
        while line:
            if len(line) >= MAX_LINE_BYTES and not line.endswith(b"\n"):
                self._skip_line(stream)
                yield None
            elif not line.endswith(b"\n") and line.count(b"\r") > 1:  # from a time before line feeds
                yield from map(self._decode, line.removesuffix(b"\r").split(b"\r"))
            else:
                yield self._decode(line)
            line = stream.readline(MAX_LINE_BYTES)

    def _skip_line(self, stream: IO[bytes]) -> None:
        while rest := stream.readline(MAX_LINE_BYTES):
            if rest.endswith(b"\n"):
                return

    def _decode(self, line: bytes) -> str:
        line = line.removesuffix(b"\n").removesuffix(b"\r")
        try:
            return line.decode()
        except UnicodeDecodeError:
            self.repaired += 1
            try:
                return line.decode("cp1252")
            except UnicodeDecodeError:
                return line.decode("latin-1")


def peek(path: Path, count: int = 40) -> list[str]:
    """Return the first `count` lines that are not blank, fewer when they are very long."""
    first: list[str] = []
    room = _PEEK_CHARS
    for number, line in Lines(path):
        if line and line.strip():
            first.append(line)
            room -= len(line)
        if len(first) == count or room < 0 or number > 50 * count:
            break
    return first


class _Joined(io.RawIOBase):
    """A head that was read already, and the rest of its stream."""

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self._head = head
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken = self._head[: len(buffer)] or self._stream.read(len(buffer))
        self._head = self._head[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def _utf16(head: bytes) -> str:
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16-le" if head[0] == 0xFF else "utf-16-be"
    half = len(head) // 2
    if half and head[1::2].count(0) > 0.7 * half and head[::2].count(0) < 0.1 * half:
        return "utf-16-le"
    return "utf-16-be" if half and head[::2].count(0) > 0.7 * half and head[1::2].count(0) < 0.1 * half else ""


def _utf16_lines(raw: _Joined, encoding: str) -> Iterator[str | None]:
    text = io.TextIOWrapper(io.BufferedReader(raw), encoding=encoding, errors="replace", newline="\n")
    line = text.readline(MAX_LINE_BYTES).removeprefix("\ufeff")
    while line:
        if len(line) >= MAX_LINE_BYTES and not line.endswith("\n"):
            while (rest := text.readline(MAX_LINE_BYTES)) and not rest.endswith("\n"):
                pass
            yield None
        else:
            yield line.removesuffix("\n").removesuffix("\r")
        line = text.readline(MAX_LINE_BYTES)
