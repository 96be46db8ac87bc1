"""Read conversation files: find the format, give each row its id and hash, set broken lines aside."""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, field

from vivace.config.data import DataSettings
from vivace.data.privacy.redaction import Redactor
from vivace.data.reading.dataset_info import is_dataset_info, listed_datasets
from vivace.data.reading.detection import choose_reader, refuse_unknown_columns
from vivace.data.reading.files import named_split, stem
from vivace.data.reading.records import OTHER_KIND, PRIVATE_NOTE, Source
from vivace.data.rows import Raw, Reject, Row
from vivace.domain import Example
from vivace.errors import DataError

_ENCODER = msgspec.json.Encoder(order="deterministic")


class FileReading(Struct):
    """What came out of one file."""

    path: Path
    label: str
    format: str = ""
    conversations: int = 0
    repaired_lines: int = 0
    rejects: list[Reject] = field(default_factory=list)


class ConversationReader:
    """Reads file after file; ids are unique over all of them."""

    def __init__(self, settings: DataSettings) -> None:
        refuse_unknown_columns(settings.columns)
        self._settings = settings
        self._redactor = Redactor(settings) if "personal" in settings.steps else None
        self._seen: set[str] = set()
        self._unused = set(settings.columns.values())

    def read(self, path: Path, reading: FileReading, *, held_out: bool = False) -> Iterator[Row]:
        """Yield the rows of a file and fill in `reading`; raises `DataError` when most of the file is broken.

        A `dataset_info.json` gives the rows of all files that it lists.
        """
        if not is_dataset_info(path):
            source = Source(path, self._settings.columns)
            yield from self._read(source, self._settings.format, reading, reading.label, held_out)
            return
        for listed in listed_datasets(path):
            if listed.problem:
                reading.rejects.append(Reject(1, listed.problem, ""))
            for inner in listed.paths:
                beside = Path(os.path.relpath(inner, path.parent)).as_posix()
                name = f"{reading.label.rpartition('/')[0]}/{beside}".lstrip("/")
                source = Source(inner, listed.columns, listed.tags)
                yield from self._read(source, listed.format, reading, name, held_out)

    def refuse_unused_columns(self) -> None:
        """Raise `DataError` for an entry of `[data] columns` that no file read so far has."""
        for column in sorted(self._unused):
            raise DataError(
                f"[data] columns names {column!r}, and no file has such a column.", "Check its spelling and case."
            )

    def _read(self, source: Source, format: str, reading: FileReading, label: str, held_out: bool) -> Iterator[Row]:
        name, reader = choose_reader(source, format)
        reading.format = name if reading.format in ("", "empty", name) else f"{reading.format}, {name}"
        if reader is None:
            return
        self._unused -= set(source.columns.values())
        split = named_split(source.path)
        records = 0
        before = len(reading.rejects)
        for item in reader.read(source):
            if isinstance(item, Reject):
                reading.rejects.append(item)
            else:
                records += item.records
                reading.conversations += 1
                if split == "validation" and "split" not in item.metadata:
                    item.metadata["split"] = split
                yield self._row(item, stem(source.path), f"{label}:{item.line}", held_out)
        reading.repaired_lines += source.lines.repaired
        _refuse_broken(source.path, name, reading.rejects[before:], records)
        if label != reading.label:
            reading.rejects[before:] = [
                Reject(reject.line, f"{source.path.name}: {reject.reason}", reject.text)
                for reject in reading.rejects[before:]
            ]

    def _row(self, raw: Raw, name: str, source: str, held_out: bool) -> Row:
        content_hash = hashlib.sha256(_ENCODER.encode((raw.messages, raw.tools))).hexdigest()
        group = raw.metadata.get(self._settings.group_by) if self._settings.group_by else None
        own_id = raw.own_id
        metadata = raw.metadata
        if own_id and self._redactor and self._redactor.find(own_id, "phone"):
            own_id = ""  # such as a telephone number
        elif own_id:
            metadata = {**metadata, "id": raw.own_id} if "id" not in metadata else metadata
        example = Example(
            id=self._unique(f"{name}:{own_id or content_hash[:12]}", content_hash),
            messages=raw.messages,
            split="test" if held_out else "train",
            tools=raw.tools,
            source=source,
            content_hash=content_hash,
            metadata=metadata,
            rejected=raw.rejected,
            rating=raw.rating,
        )
        return Row(example, "" if group is None else str(group).strip(), held_out)

    def _unique(self, name: str, content_hash: str) -> str:
        candidate, count = name, 1
        if candidate in self._seen and not name.endswith(content_hash[:12]):
            candidate = name = f"{name}-{content_hash[:8]}"
        while candidate in self._seen:
            count += 1
            candidate = f"{name}-{count}"
        self._seen.add(candidate)
        return candidate


def _refuse_broken(path: Path, format: str, rejects: list[Reject], records: int) -> None:
    """Raise `DataError` when more is broken than read, or ten times as much is of another kind."""
    broken = [reject for reject in rejects if reject.reason != PRIVATE_NOTE]
    others = sum(reject.reason.startswith(OTHER_KIND) for reject in broken)
    if len(broken) - others > records or others > 9 * records:
        raise DataError(
            f"{path}: {len(broken)} of {len(broken) + records} lines cannot be read as {format}.",
            f"The first is line {broken[0].line}: {broken[0].reason}.",
        )
