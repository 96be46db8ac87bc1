"""Examples, and other rows, as JSON Lines."""

import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from vivace.domain import Example, Split
from vivace.errors import DataError
from vivace.store.files import disk_errors, sync_folder

_ENCODER = msgspec.json.Encoder(order="deterministic")


def encode_line(row: Any) -> bytes:
    """Return a row as a line of JSON, the same bytes for the same row."""
    return _ENCODER.encode(row) + b"\n"


def write_examples(path: Path, examples: Iterable[Example]) -> int:
    """Write one example a line, whole or not at all, and return how many."""
    return write_lines(path, map(encode_line, examples))


def write_lines(path: Path, lines: Iterable[bytes]) -> int:
    """Write lines as they come, the file whole or not at all, and return how many."""
    count = 0
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, aside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                for line in lines:
                    file.write(line)
                    count += 1
                file.flush()
                os.fsync(file.fileno())
            os.chmod(aside, 0o644)
            os.replace(aside, path)
        except BaseException:
            Path(aside).unlink(missing_ok=True)
            raise
        sync_folder(path.parent)
    return count


def read_examples(path: Path, split: Split | None = None) -> Iterator[Example]:
    """Yield the examples of a file, or of one split of it; raises `DataError` with the line that is broken."""
    decoder = msgspec.json.Decoder(Example)
    if not path.is_file():
        raise DataError(f"There is no dataset at {path}.", "Run `vivace data` first.")
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                example = decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise DataError(f"{path}, line {number}: {error}.", "Run `vivace data` again.") from error
            if split is None or example.split == split:
                yield example
