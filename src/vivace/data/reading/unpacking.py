"""Compressed files as a stream of bytes, told from the content and bounded against zip bombs."""

import gzip
import io
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from vivace.errors import DataError

GZIP_MAGIC = b"\x1f\x8b"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MAX_RATIO = 200
MAX_SMALL_BYTES = 64 << 20
_CHUNK_BYTES = 1024  # a zstd block of 4 bytes can hold 128 KiB: a kilobyte never unpacks to more than 32 MiB


def unpacked(raw: IO[bytes], path: Path) -> IO[bytes]:
    """Return the content of an open file, decompressed if it is gzip or zstd.

    Reading raises `DataError` once more than 64 MiB and 200 times the file's size came out of it.
    """
    magic = raw.read(4)
    raw.seek(0)
    inner: Any
    if magic.startswith(GZIP_MAGIC):
        inner = gzip.GzipFile(fileobj=raw)
    elif magic == ZSTD_MAGIC:
        inner = _Zstd(raw)
    else:
        return raw
    return io.BufferedReader(_Bounded(inner, path), 1 << 14)


@contextmanager
def damage_told(path: Path, place: Callable[[], str]) -> Iterator[None]:
    """Turn what reading a damaged file raises into a `DataError` that says how far it went."""
    try:
        yield
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        kind = "zstd" if isinstance(error, _TornZstd) else "gzip"
        raise DataError(
            f"{path} is a damaged {kind} file: it breaks off {place()}.", "Copy or export it again."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


class _TornZstd(EOFError):
    pass


class _Zstd(io.RawIOBase):
    """A zstd file, frame after frame; one that breaks off is an error, which the library's own reader hides."""

    def __init__(self, raw: IO[bytes]) -> None:
        import zstandard

        self._raw = raw
        self._error = zstandard.ZstdError
        self._open = zstandard.ZstdDecompressor().decompressobj
        self._frame = self._open()
        self._packed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            self._packed = self._packed or self._raw.read(_CHUNK_BYTES)
            if not self._packed:
                return 0 if self._frame.eof else self._torn()
            if self._frame.eof:
                self._frame = self._open()
            try:
                self._ready = memoryview(self._frame.decompress(self._packed))
            except self._error as error:
                raise _TornZstd(str(error)) from error
            self._packed = self._frame.unused_data
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _torn(self) -> int:
        raise _TornZstd("the last frame is not complete")


class _Bounded(io.RawIOBase):
    """What comes out of a compressed file, up to a limit."""

    def __init__(self, inner: Any, path: Path) -> None:
        self._inner = inner
        self._path = path
        self._limit = max(MAX_SMALL_BYTES, MAX_RATIO * os.stat(path).st_size)
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count: int = self._inner.readinto(buffer)
        self._count += count
        if self._count > self._limit:
            raise DataError(
                f"{self._path} unpacks to more than {MAX_RATIO} times its size: it may be a zip bomb.",
                "If you trust it, decompress it yourself and name the result.",
            )
        return count
