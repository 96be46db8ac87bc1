"""Corrections of labels by a person: a file laid over the data, whose own files are never edited."""

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.data.rows import Reject, Row
from vivace.errors import DataError
from vivace.store.files import append_line

_ENCODER = msgspec.json.Encoder(order="deterministic")


class Correction(Struct, frozen=True):
    """What the label `field` of one row is; `content_hash` is what the row was when somebody looked at it."""

    id: str
    content_hash: str
    field: str
    value: str
    by: str = ""
    at: str = ""


class Corrections:
    """The corrections of a file, the last one for each row and field, and what became of them.

    `rejects` are lines that are no corrections.
    """

    def __init__(self, corrections: list[Correction], rejects: list[Reject]) -> None:
        self.rejects = rejects
        self._latest: dict[str, dict[str, Correction]] = {}
        for correction in corrections:
            self._latest.setdefault(correction.id, {})[correction.field] = correction
        self._applied: set[tuple[str, str]] = set()
        self._stale: set[tuple[str, str]] = set()

    def __len__(self) -> int:
        return sum(map(len, self._latest.values()))

    def apply(self, row: Row) -> Row:
        """Return the row with its corrections; those made for other content of the same id are not applied."""
        found = self._latest.get(row.example.id)
        if not found:
            return row
        metadata = dict(row.example.metadata)
        for correction in found.values():
            key = (correction.id, correction.field)
            if correction.content_hash == row.example.content_hash:
                metadata[correction.field] = correction.value
                self._applied.add(key)
            else:
                self._stale.add(key)
        example = msgspec.structs.replace(row.example, metadata=metadata)
        return Row(example, row.group, row.held_out)

    def summary(self) -> dict[str, Any]:
        """Return how many were applied, and the ids of those that were stale or matched no row."""
        every = {(row, field) for row, fields in self._latest.items() for field in fields}
        return {
            "applied": len(self._applied),
            "stale": sorted({row for row, _field in self._stale - self._applied}),
            "unmatched": sorted({row for row, _field in every - self._applied - self._stale}),
            "unreadable_lines": [reject.line for reject in self.rejects],
        }


def read_corrections(path: Path) -> Corrections:
    """Read a file of corrections, one JSON object a line, later ones first in rank; no file is no corrections."""
    try:
        content = path.read_bytes() if path.exists() else b""
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.", "It holds corrections of labels.") from error
    corrections: list[Correction] = []
    rejects: list[Reject] = []
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            corrections.append(msgspec.json.decode(line, type=Correction))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            rejects.append(Reject(number, f"no correction: {error}", line.decode(errors="replace")[:2000]))
    return Corrections(corrections, rejects)


def append_correction(path: Path, correction: Correction) -> None:
    """Add a correction to the file and return when it is on disk."""
    append_line(path, _ENCODER.encode(correction))
