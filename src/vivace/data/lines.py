"""Lines of a text file, plain or gzip, one at a time and with their numbers."""

import gzip
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from vivace.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
MAX_LINE_BYTES = 16 << 20
_UTF16 = {b"\xff\xfe": "utf-16-le", b"\xfe\xff": "utf-16-be"}


class Lines:
    """The lines of `path` as text without their ends; iterate as often as needed, nothing is kept.

    Compression is told from the content. Lines are UTF-8; one that is not is read as Windows-1252 and counted
    in `repaired`. UTF-16 is told from its byte order mark. A line over 16 MiB comes as None.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.repaired = 0
        self._place: Callable[[], int] = lambda: 0

    def __iter__(self) -> Iterator[tuple[int, str | None]]:
        self.repaired = number = 0
        try:
            with open(self.path, "rb") as raw:
                compressed = raw.read(2) == GZIP_MAGIC
                raw.seek(0)
                self._place = raw.tell
                stream: IO[bytes] = gzip.GzipFile(fileobj=raw) if compressed else raw  # type: ignore[assignment]
                for number, line in enumerate(self._texts(stream), start=1):
                    yield number, line
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(
                f"{self.path} is a damaged gzip file: it breaks off after line {number}.", "Copy or export it again."
            ) from error
        except OSError as error:
            raise DataError(f"{self.path} cannot be read: {error.strerror or error}.") from error

    def share_read(self) -> float:
        """Return about which share of the file has been read so far, while iterating."""
        return min(1.0, self._place() / max(1, self.path.stat().st_size))

    def _texts(self, stream: IO[bytes]) -> Iterator[str | None]:
        head = stream.readline(MAX_LINE_BYTES)
        if encoding := _UTF16.get(head[:2]):
            content = head + stream.read()
            text = content[2:].decode(encoding, errors="replace")
            yield from (line.removesuffix("\r") for line in text.removesuffix("\n").split("\n"))
            return
        line = head.removeprefix(b"\xef\xbb\xbf")
        while line:
            if len(line) >= MAX_LINE_BYTES and not line.endswith(b"\n"):
                self._skip_line(stream)
                yield None
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


def peek(path: Path, count: int = 20) -> list[str]:
    """Return the first `count` lines that are not blank."""
    first: list[str] = []
    for _number, line in Lines(path):
        if line and line.strip():
            first.append(line)
            if len(first) == count:
                break
    return first
