"""Files of conversations, read as the data stage reads them."""

from pathlib import Path

from vivace.data.reading.detection import choose_reader
from vivace.data.reading.records import Source
from vivace.data.rows import Raw, Reject


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def read(path: Path, format: str = "", **columns: str) -> list[Raw | Reject]:
    source = Source(path, columns)
    _name, reader = choose_reader(source, format)
    return list(reader.read(source)) if reader else []


def conversations(path: Path, format: str = "", **columns: str) -> list[Raw]:
    return [item for item in read(path, format, **columns) if isinstance(item, Raw)]


def rejects(path: Path) -> list[Reject]:
    return [item for item in read(path) if isinstance(item, Reject)]


def spoken(raw: Raw) -> list[tuple[str, str]]:
    return [(message.role, message.content) for message in raw.messages]
