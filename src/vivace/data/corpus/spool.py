"""Records on disk, one after another, read back in order or by place."""

import os
from array import array
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from vivace.store.files import disk_errors

BLOCK_BYTES = 1 << 20


Item = TypeVar("Item")


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in lists of `size`; the last may be shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


class Spool:
    """An append-only file of records; only where each begins is in memory, 8 bytes a record."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(path, "wb+")  # noqa: SIM115 - closed by `close`
        self._ends = array("q", [0])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def extend(self, records: Iterable[bytes]) -> None:
        """Append records."""
        with disk_errors(self.path):
            end = self._ends[-1]
            parts: list[bytes] = []
            for record in records:
                end += len(record)
                self._ends.append(end)
                parts.append(record)
            self._file.write(b"".join(parts))

    def extend_joined(self, content: bytes, sizes: np.ndarray) -> None:
        """Append records that stand in `content` one after another, each of its size in bytes."""
        with disk_errors(self.path):
            ends = np.cumsum(sizes, dtype=np.int64) + self._ends[-1]
            self._ends.frombytes(ends.tobytes())
            self._file.write(content)

    def sync(self) -> None:
        """Make what was appended readable."""
        with disk_errors(self.path):
            self._file.flush()

    def record(self, place: int) -> bytes:
        """Return the record at `place`."""
        start = self._ends[place]
        return os.pread(self._file.fileno(), self._ends[place + 1] - start, start)

    def records(self) -> Iterator[bytes]:
        """Yield all records in order, a block at a time."""
        descriptor = self._file.fileno()
        place, count = 0, len(self)
        while place < count:
            start = self._ends[place]
            last = place + 1
            while last < count and self._ends[last + 1] - start <= BLOCK_BYTES:
                last += 1
            block = os.pread(descriptor, self._ends[last] - start, start)
            for item in range(place, last):
                yield block[self._ends[item] - start : self._ends[item + 1] - start]
            place = last

    def clear(self) -> None:
        """Forget all records."""
        self._file.seek(0)
        self._file.truncate()
        self._ends = array("q", [0])

    def close(self) -> None:
        """Close and remove the file."""
        self._file.close()
        self.path.unlink(missing_ok=True)
