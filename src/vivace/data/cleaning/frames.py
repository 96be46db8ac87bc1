"""The language between a cleaning process and its parent: length-prefixed msgpack."""

from typing import BinaryIO

from msgspec import Struct

LENGTH_BYTES = 8


class Opening(Struct, frozen=True):
    """The first frame a process reads: `settings` as JSON, the steps to run."""

    settings: bytes
    steps: tuple[str, ...]
    label: bool


class Failure(Struct, frozen=True, tag="failure"):
    """What a user can cause or fix: the class of the error, its sentence and hint."""

    kind: str
    message: str
    hint: str


def write_frame(pipe: BinaryIO, body: bytes) -> None:
    """Write one frame."""
    pipe.write(len(body).to_bytes(LENGTH_BYTES, "big") + body)
    pipe.flush()


def read_frame(pipe: BinaryIO) -> bytes | None:
    """Read one frame, None when the other side is gone."""
    prefix = pipe.read(LENGTH_BYTES)
    if len(prefix) < LENGTH_BYTES:
        return None
    size = int.from_bytes(prefix, "big")
    body = pipe.read(size)
    return body if len(body) == size else None
