"""What the CSV and TSV readers share: columns by their many names, records that survive a stray quote."""

import csv
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from msgspec import Struct

from vivace.data.lines import Lines
from vivace.data.rows import Reject
from vivace.errors import DataError

DELIMITERS = ",\t;|"
CONVERSATION = (
    "conversation_id", "conversation", "ticket_id", "ticket", "thread_id", "thread", "chat_id", "chat", "case_id",
    "case", "session_id", "session", "dialogue_id", "dialog_id",
)  # fmt: skip
ORDER = (
    "turn",
    "turn_index",
    "turn_id",
    "position",
    "sequence",
    "created_at",
    "timestamp",
    "sent_at",
    "datetime",
    "time",
)

Slots = Mapping[str, Sequence[str]]
NumberedLine = tuple[int, str | None]


class Record(Struct, frozen=True):
    """One record of a table: its first line, its text as it stood, and its fields by column."""

    line: int
    text: str
    fields: dict[str, str]


def header(first: list[str]) -> tuple[str, list[str]] | None:
    """Return delimiter and column names of a table that starts with these lines, None when it is no table."""
    if not first or first[0].lstrip()[:1] in ("{", "["):
        return None
    delimiter = max(DELIMITERS, key=first[0].count)
    if not first[0].count(delimiter):
        return None
    columns = next(csv.reader(first[:1], delimiter=delimiter), [])
    return delimiter, [column.strip() for column in columns]


def match(columns: list[str], slots: Slots) -> dict[str, str] | None:
    """Return the column of each slot, None when one has no column; raises `DataError` when one has several.

    The first name of a slot is the documented one and wins over the others.
    """
    names = {column.casefold().replace(" ", "_").replace("-", "_"): column for column in columns}
    found: dict[str, str] = {}
    several: list[str] = []
    for slot, synonyms in slots.items():
        present = [names[name] for name in synonyms if name in names]
        if not present:
            return None
        if len(present) > 1 and synonyms[0] not in names:
            several.append(f"{' and '.join(repr(name) for name in present)} could each be `{slot}`")
        found[slot] = present[0]
    if several:
        raise DataError(
            f"The columns {', '.join(columns)} are ambiguous: {'; '.join(several)}.",
            f"Rename the right ones to {', '.join(slots)}.",
        )
    return found


def records(lines: Lines) -> Iterator[Record | Reject]:
    """Yield the records after the header.

    A record that does not fit is set aside by its first line only, and reading goes on with the next line: a
    stray quotation mark costs one line, not the rest of the file.
    """
    pending = _Pushback(iter(lines))
    first = pending.next_filled()
    table = header([first[1]]) if first and first[1] else None
    if table is None:
        return
    delimiter, columns = table
    while (head := pending.next_filled()) is not None:
        if head[1] is None:
            yield Reject(head[0], "the line is longer than 16 MiB", "")
            continue
        pending.push([head])
        taken: list[NumberedLine] = []
        problem, fields = _record(pending, taken, delimiter, len(columns))
        text = "\n".join(line or "" for _, line in taken)
        if problem:
            yield Reject(head[0], problem, head[1])
            pending.push(taken[1:])
        else:
            yield Record(head[0], text, dict(zip(columns, fields, strict=True)))


class _Pushback:
    """Lines that can be given back."""

    def __init__(self, source: Iterator[NumberedLine]) -> None:
        self._source = source
        self._pushed: deque[NumberedLine] = deque()

    def __iter__(self) -> "_Pushback":
        return self

    def __next__(self) -> NumberedLine:
        return self._pushed.popleft() if self._pushed else next(self._source)

    def push(self, lines: list[NumberedLine]) -> None:
        self._pushed.extendleft(reversed(lines))

    def next_filled(self) -> NumberedLine | None:
        """Return the next line that is not blank."""
        return next((line for line in self if line[1] is None or line[1].strip()), None)


def _record(pending: _Pushback, taken: list[NumberedLine], delimiter: str, width: int) -> tuple[str, list[str]]:
    """Return what is wrong with the next record, and its fields; its lines are added to `taken`."""

    def feed() -> Iterator[str]:
        for line in pending:
            taken.append(line)
            yield (line[1] or "") + "\n"

    try:
        fields = next(csv.reader(feed(), delimiter=delimiter, strict=True))
    except csv.Error as error:
        return f"not a valid table row: {error}", []
    if len(fields) != width:
        return f"{len(fields)} fields, the header has {width}", []
    return "", fields


def chronological(rows: list[Record], columns: list[str]) -> list[Record]:
    """Return the rows by their turn number or time, if a column tells it for all of them; else as they stand."""
    by_name = {column.casefold().replace(" ", "_"): column for column in columns}
    for name in ORDER:
        if name in by_name:
            keys = [_moment(row.fields[by_name[name]]) for row in rows]
            if all(key is not None for key in keys):
                places = sorted(range(len(rows)), key=lambda place: keys[place] or 0.0)
                return [rows[place] for place in places]
    return rows


def _moment(text: str) -> float | None:
    text = text.strip()
    try:
        number = float(text)
    except ValueError:
        try:
            moment = datetime.fromisoformat(text)
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
        except (ValueError, OverflowError):
            return None
    return number if number == number else None


def extra(rows: list[Record], used: set[str]) -> dict[str, Any]:
    """Return the other columns as metadata: one value where all rows agree, else the list of values."""
    metadata: dict[str, Any] = {}
    for column in rows[0].fields:
        if column in used or not column:
            continue
        values = [row.fields[column] for row in rows]
        if any(values):
            metadata[column] = values[0] if len(set(values)) == 1 else values
    return metadata
