"""A file as records: JSON Lines, a JSON array, a table, Parquet or Arrow give the same dictionaries."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, cast

import msgspec
from msgspec import Struct

from vivace.data.reading.columnar import columnar_kind, columnar_rows, count_rows
from vivace.data.reading.lines import TOO_LONG, Lines, peek
from vivace.data.reading.tables import header, table_rows
from vivace.data.rows import Reject
from vivace.errors import DataError

MAX_WHOLE_BYTES = 256 << 20
MAX_DEPTH = 64
PRIVATE_NOTE = "private note"
OTHER_KIND = "another kind of row"
_SAMPLE = 40
_ARRAY = re.compile(r"\[\s*(?:[\[{\"\]]|$)")
_LISTS = ("data", "rows", "examples", "conversations", "train")
_DECODE = msgspec.json.Decoder().decode


class Record(Struct, frozen=True):
    """One record: `line` is where it starts (in Parquet, Arrow and JSON arrays its number), `raw` how it stood."""

    line: int
    fields: dict[str, Any]
    raw: str = ""

    @property
    def text(self) -> str:
        """How the record stood in the file, or its fields as JSON."""
        return self.raw or msgspec.json.encode(self.fields).decode()


class Source:
    """One file of records; `columns` maps the names that readers know to the file's own, `tags` are ShareGPT's keys."""

    def __init__(
        self, path: Path, columns: Mapping[str, str] | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        self.path = path
        self.lines = Lines(path)
        self.tags = dict(tags or {})
        self._asked = dict(columns or {})
        self._done = 0

    @cached_property
    def kind(self) -> str:
        """What holds the records: empty, json_lines, json, table, text, parquet or arrow."""
        head = self.lines.head()
        if kind := columnar_kind(head):
            return kind
        if not self.first_lines:
            return "json" if head.lstrip()[:1] in (b"{", b"[") else "empty" if not head.strip() else "text"
        first = self.first_lines[0].strip()
        objects = any(isinstance(_loaded(line), dict) for line in self.first_lines)
        if first == "{" or (_ARRAY.match(first) and not (objects and isinstance(_loaded(first), list))):
            return "json"
        if objects:
            return "json_lines"
        if first.startswith("{"):
            return "json"
        return "table" if header(self.first_lines) else "text"

    @cached_property
    def first_lines(self) -> list[str]:
        """The first lines that are not blank; none of a binary file."""
        return [] if columnar_kind(self.lines.head(8)) else peek(self.path)

    @cached_property
    def first(self) -> list[dict[str, Any]]:
        """The fields of the first records, the broken ones left out."""
        return [item.fields for item in islice(self.records(), _SAMPLE) if isinstance(item, Record)]

    @cached_property
    def keys(self) -> list[str]:
        """The names of the fields of the first records, in order; of an empty table its header."""
        found = list(dict.fromkeys(key for fields in self.first for key in fields))
        table = header(self.first_lines) if self.kind == "table" and not found else None
        return [self._renamed.get(name, name) for name in table[1]] if table else found

    @cached_property
    def columns(self) -> dict[str, str]:
        """The asked columns that this file has."""
        plain = Source(self.path)
        keys = set(plain.keys)
        return {name: column for name, column in self._asked.items() if column in keys}

    def records(self) -> Iterator[Record | Reject]:
        """Yield each record, with the asked columns renamed, and each broken line."""
        rename = self._renamed
        for item in self._plain():
            self._done += 1
            if rename and isinstance(item, Record):
                yield Record(item.line, _rename(item.fields, rename), item.raw)
            else:
                yield item

    def share_read(self) -> float:
        """Return about which share of the file has been read so far."""
        if self.kind == "parquet":
            return min(1.0, self._done / max(1, count_rows(self.path)))
        return self.lines.share_read() if self.kind in ("json_lines", "table", "text") else 1.0

    @cached_property
    def _renamed(self) -> dict[str, str]:
        return {column: name for name, column in self.columns.items() if column != name} if self._asked else {}

    def _plain(self) -> Iterator[Record | Reject]:
        if self.kind == "json_lines":
            return self._json_lines()
        if self.kind == "json":
            return self._json()
        if self.kind == "table":
            return self._table()
        if self.kind in ("parquet", "arrow"):
            return (Record(n, row) for n, row in enumerate(columnar_rows(self.path, self.kind), start=1))
        return iter(())

    def _json_lines(self) -> Iterator[Record | Reject]:
        for number, line in self.lines:
            if line is None:
                yield Reject(number, TOO_LONG, "")
            elif line and not line.isspace():
                yield _record(number, line, line)

    def _json(self) -> Iterator[Record | Reject]:
        content = self.lines.content(MAX_WHOLE_BYTES)
        try:
            items = _items(content)
        except (msgspec.DecodeError, RecursionError) as error:
            raise DataError(
                f"{self.path} starts like one JSON value and is not: {error}.",
                "Write it as JSON Lines, one object a line: then a broken line costs one line.",
            ) from error
        for number, item in enumerate(items, start=1):
            yield _record(number, bytes(item), "")

    def _table(self) -> Iterator[Record | Reject]:
        for item in table_rows(self.lines):
            yield item if isinstance(item, Reject) else Record(item.line, cast(dict[str, Any], item.fields), item.text)


def _items(content: str) -> list[msgspec.Raw]:
    if content.lstrip().startswith("["):
        return msgspec.json.decode(content, type=list[msgspec.Raw])
    row = msgspec.json.decode(content, type=dict[str, msgspec.Raw])
    for key in _LISTS:
        if key in row and _ARRAY.match(text := bytes(row[key])[:64].decode(errors="replace")) and "{" in text:
            listed = msgspec.json.decode(row[key], type=list[msgspec.Raw])
            # the turns of one conversation are no list of conversations
            if key != "conversations" or not {"from", "role"} & set(_loaded(listed[0]) or ()):
                return listed
    return [msgspec.Raw(content.encode())]


def _record(number: int, written: str | bytes, raw: str) -> Record | Reject:
    try:
        row = _DECODE(written)
    except (msgspec.DecodeError, RecursionError) as error:
        return Reject(number, f"not valid JSON: {error}", _text(written))
    if not isinstance(row, dict):
        return Reject(number, "not a JSON object", _text(written))
    if _brackets(written) > MAX_DEPTH and _deeper(row, MAX_DEPTH):
        return Reject(number, f"nested deeper than {MAX_DEPTH} levels", _text(written))
    return Record(number, row, raw)


def _text(written: str | bytes) -> str:
    return written if isinstance(written, str) else written.decode(errors="replace")


def _brackets(written: str | bytes) -> int:
    if isinstance(written, str):
        return written.count("}") + written.count("]")
    return written.count(b"}") + written.count(b"]")


def _deeper(value: Any, limit: int) -> bool:
    layer: list[Any] = [value]
    for _ in range(limit):
        layer = [
            inner
            for outer in layer
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if isinstance(inner, dict | list)
        ]
        if not layer:
            return False
    return True


def _loaded(written: Any) -> Any:
    try:
        return _DECODE(written)
    except (msgspec.DecodeError, RecursionError):
        return None


def _rename(fields: dict[str, Any], rename: Mapping[str, str]) -> dict[str, Any]:
    """Give fields the names that readers know; another field of such a name steps back."""
    taken = set(rename.values())
    return {rename.get(name, f"other_{name}" if name in taken else name): value for name, value in fields.items()}
