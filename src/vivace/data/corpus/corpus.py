"""The rows that are being cleaned: their texts on disk, what steps compare in memory."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from vivace.data.corpus.sketches import Columns, Sketches
from vivace.data.corpus.spool import Spool
from vivace.data.rows import Row
from vivace.data.trail import StepTrail
from vivace.store.rows import encode_line

_ENCODER = msgspec.msgpack.Encoder()
_DECODER: msgspec.msgpack.Decoder[Row] = msgspec.msgpack.Decoder(Row)


def pack(row: Row) -> bytes:
    """Return a row as bytes."""
    return _ENCODER.encode(row)


def unpack(record: bytes) -> Row:
    """Return the row that `pack` made bytes of."""
    return _DECODER.decode(record)


class Corpus:
    """Rows by place (their number in reading order); a row that is dropped keeps its place and is passed over.

    `columns` has what is compared between rows. Dropped rows go to `drops` as lines of JSON.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._rows = Spool(folder / f"{name}.rows")
        self.drops = Spool(folder / f"{name}.drops")
        self.columns = Columns(folder / name)
        self._alive = np.zeros(0, dtype=bool)
        self._notes: dict[str, dict[int, Any]] = {}

    def extend(self, records: list[bytes], sketches: Sketches | None = None) -> None:
        """Append packed rows and, beside them, their sketches."""
        self._rows.extend(records)
        if sketches is not None:
            self.columns.extend(sketches)

    def seal(self) -> "Corpus":
        """End appending; rows can be read from now on."""
        self._rows.sync()
        self.columns.seal()
        self._alive = np.ones(len(self._rows), dtype=bool)
        return self

    def __len__(self) -> int:
        return int(self._alive.sum())

    def places(self) -> np.ndarray:
        """Return the places of the rows still in, shape (n,), in reading order."""
        return np.flatnonzero(self._alive)

    def records(self) -> Iterator[bytes]:
        """Yield the packed rows still in."""
        if self._notes:
            yield from (pack(row) for _place, row in self.rows())
            return
        for place, record in enumerate(self._rows.records()):
            if self._alive[place]:
                yield record

    def rows(self, places: Iterable[int] | None = None) -> Iterator[tuple[int, Row]]:
        """Yield place and row of those still in, or of the ones asked for."""
        if places is not None:
            yield from ((place, self.row(place)) for place in places)
            return
        for place, record in enumerate(self._rows.records()):
            if self._alive[place]:
                yield place, self._noted(place, unpack(record))

    def row(self, place: int) -> Row:
        """Return the row at a place, dropped or not."""
        return self._noted(place, unpack(self._rows.record(place)))

    def drop(self, place: int, trail: StepTrail, reason: str, detail: str = "") -> None:
        """Take a row out, for a `reason` that is counted and a `detail` that is not."""
        self._alive[place] = False
        trail.drop(self.row(place), reason, detail)
        self.drops.extend(encode_line(dropped) for dropped in trail.take_dropped())

    def leave_out(self, places: np.ndarray) -> None:
        """Take rows out without a word, because they were not asked for."""
        self._alive[places] = False

    def annotate(self, name: str, values: Mapping[int, Any]) -> None:
        """Put `values`, by place, into the rows' metadata under `name`."""
        self._notes.setdefault(name, {}).update(values)

    def close(self) -> None:
        """Remove the files."""
        self._rows.close()
        self.drops.close()
        self.columns.close()

    def _noted(self, place: int, row: Row) -> Row:
        found = {name: values[place] for name, values in self._notes.items() if place in values}
        if not found:
            return row
        example = msgspec.structs.replace(row.example, metadata={**row.example.metadata, **found})
        return Row(example, row.group, row.held_out)
