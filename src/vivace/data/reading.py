"""Read conversation files: find the format, give each row its id and hash, set broken lines aside."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
from msgspec import Struct, field

from vivace.config.settings import DataSettings
from vivace.data.files import stem
from vivace.data.lines import Lines, peek
from vivace.data.privacy.redaction import Redactor
from vivace.data.readers import READERS, Reader
from vivace.data.readers.openai_chat import json_objects
from vivace.data.readers.tables import header
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


def choose_reader(path: Path) -> tuple[str, Reader | None]:
    """Return name and reader of the file's format, told from its content; ("empty", None) for an empty file."""
    first = peek(path)
    if not first:
        return "empty", None
    readers: dict[str, Reader] = {name: READERS.load(name) for name in READERS.names()}
    try:
        found = [name for name, reader in readers.items() if reader.recognizes(first)]
    except DataError as error:
        raise DataError(f"{path}: {error.message}", error.hint) from error
    needs = "; or ".join(reader.NEEDS for reader in readers.values())
    if len(found) > 1:
        raise DataError(
            f"{path} could be {' or '.join(found)}: it has {_columns(first)}.",
            "Rename or remove columns until one fits.",
        )
    if not found:
        raise DataError(f"{path} is in no known format: it has {_columns(first)}.", f"Needed: {needs}.")
    return found[0], readers[found[0]]


class ConversationReader:
    """Reads file after file; ids are unique over all of them."""

    def __init__(self, settings: DataSettings) -> None:
        self._settings = settings
        self._redactor = Redactor(settings) if "personal" in settings.steps else None
        self._seen: set[str] = set()

    def read(self, path: Path, reading: FileReading, *, held_out: bool = False) -> Iterator[Row]:
        """Yield the rows of a file and fill in `reading`; raises `DataError` when most of the file is broken."""
        reading.format, reader = choose_reader(path)
        if reader is None:
            return
        lines = Lines(path)
        name = stem(path)
        records = 0
        for item in reader.read(lines):
            if isinstance(item, Reject):
                reading.rejects.append(item)
            else:
                records += item.records
                reading.conversations += 1
                yield self._row(item, name, f"{reading.label}:{item.line}", held_out)
        reading.repaired_lines = lines.repaired
        broken = len(reading.rejects)
        if broken > records:
            worst = reading.rejects[0]
            raise DataError(
                f"{path}: {broken} of {broken + records} lines cannot be read as {reading.format}.",
                f"The first is line {worst.line}: {worst.reason}.",
            )

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


def _columns(first: list[str]) -> str:
    if objects := json_objects(first):
        return "JSON objects with the keys " + ", ".join(dict.fromkeys(key for row in objects for key in row))
    if first[0].lstrip().startswith("["):
        return "one JSON array, not one JSON object a line"
    table = header(first)
    return "the columns " + ", ".join(table[1]) if table else f"a first line that starts {first[0][:60]!r}"
