"""Records of a CSV or TSV file, which survive a stray quotation mark."""

import csv
from collections import deque
from collections.abc import Iterator

from msgspec import Struct

from vivace.data.reading.lines import TOO_LONG, Lines
from vivace.data.rows import Reject

DELIMITERS = ",\t;|"

NumberedLine = tuple[int, str | None]


class TableRow(Struct, frozen=True):
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
    try:
        columns = next(csv.reader(first[:1], delimiter=delimiter), [])
    except csv.Error:
        return None
    return delimiter, _told_apart([column.strip() for column in columns])


def _told_apart(columns: list[str]) -> list[str]:
    """Number columns of the same name from the second on."""
    found: list[str] = []
    for column in columns:
        name, count = column, 1
        while name in found:
            count += 1
            name = f"{column}_{count}"
        found.append(name)
    return found


def table_rows(lines: Lines) -> Iterator[TableRow | Reject]:
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
            yield Reject(head[0], TOO_LONG, "")
            continue
        pending.push([head])
        taken: list[NumberedLine] = []
        problem, fields = _record(pending, taken, delimiter, len(columns))
        text = "\n".join(line or "" for _, line in taken)
        if problem:
            yield Reject(head[0], problem, head[1])
            pending.push(taken[1:])
        else:
            yield TableRow(head[0], text, dict(zip(columns, fields, strict=True)))


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
