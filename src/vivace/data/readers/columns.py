"""Columns by their many names, and records of one conversation brought together."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vivace.data.reading.records import Record, Source
from vivace.data.rows import Reject
from vivace.errors import DataError

CONVERSATION = (
    "conversation_id", "conversation", "ticket_id", "ticket", "thread_id", "thread", "chat_id", "chat", "case_id",
    "case", "session_id", "session", "dialogue_id", "dialog_id", "ticket_number", "case_number",
)  # fmt: skip
ORDER = (
    "turn", "turn_index", "turn_id", "position", "sequence", "created_at", "timestamp", "sent_at", "datetime", "time",
    "date", "created", "message_time",
)  # fmt: skip

Slots = Mapping[str, Sequence[str]]


def plain(name: str) -> str:
    """Return a column's name as slots write it."""
    return name.strip().casefold().replace(" ", "_").replace("-", "_")


def match(source: Source, slots: Slots, *, leave: Collection[str] = ()) -> dict[str, str] | None:
    """Return the column of each slot, None when one has no column; raises `DataError` when one has several.

    A column that the settings name wins, then the first name of a slot, the documented one. Columns in `leave` are not
    looked at.
    """
    keys = source.keys
    names = {plain(key): key for key in keys if key not in leave}
    found: dict[str, str] = {}
    several: list[tuple[str, list[str]]] = []
    for slot, synonyms in slots.items():
        present = [names[name] for name in synonyms if name in names]
        if not present:
            return None
        asked = [key for key in present if key in source.columns]
        if len(present) > 1 and not asked and synonyms[0] not in names:
            several.append((slot, present))
        found[slot] = (asked or present)[0]
    if several:
        told = "; ".join(
            f"{' and '.join(repr(name) for name in present)} could each be `{slot}`" for slot, present in several
        )
        setting = ", ".join(f'{slot} = "{present[0]}"' for slot, present in several)
        raise DataError(
            f"The columns {', '.join(keys)} are ambiguous: {told}.",
            f"Say which is meant in vivace.toml: [data] columns = {{ {setting} }}.",
        )
    return found


def optional(source: Source, slots: Slots, *, leave: Collection[str] = ()) -> dict[str, str]:
    """Return the columns of the slots that have one."""
    found: dict[str, str] = {}
    for slot, synonyms in slots.items():
        found.update(match(source, {slot: synonyms}, leave=leave) or {})
    return found


def cell(record: Record, column: str | None) -> str:
    """Return a field as text; what is not there is empty."""
    value = record.fields.get(column) if column else None
    return "" if value is None else value if isinstance(value, str) else str(value)


def conversations(
    source: Source, key_of: Callable[[Record], str], broken: Callable[[Record], str]
) -> Iterator[tuple[str, list[Record]] | Reject]:
    """Yield the records of each conversation together, in the order in which conversations end.

    The file is read twice: the first time tells where each conversation ends, so that only those under way are kept.
    `broken` returns what is wrong with a record, "" for nothing.
    """
    last: dict[str, int] = {}
    for place, item in enumerate(source.records()):
        if isinstance(item, Record) and not broken(item):
            last[key_of(item)] = place
    under_way: dict[str, list[Record]] = {}
    for place, item in enumerate(source.records()):
        if isinstance(item, Reject):
            yield item
        elif reason := broken(item):
            yield Reject(item.line, reason, item.text)
        else:
            key = key_of(item)
            under_way.setdefault(key, []).append(item)
            if last[key] == place:
                yield key, under_way.pop(key)


def chronological(rows: list[Record], keys: list[str]) -> list[Record]:
    """Return the rows by their turn number or time, if a column tells it for all of them; else as they stand."""
    by_name = {plain(key): key for key in keys}
    for name in ORDER if len(rows) > 1 else ():
        if name in by_name:
            moments = [_moment(cell(row, by_name[name])) for row in rows]
            if all(moment is not None for moment in moments):
                places = sorted(range(len(rows)), key=lambda place: moments[place] or 0.0)
                return [rows[place] for place in places]
    return rows


def extra(rows: list[Record], used: Collection[str]) -> dict[str, Any]:
    """Return the other columns as metadata: one value where all rows agree, else the list of values."""
    metadata: dict[str, Any] = {}
    for column in dict.fromkeys(key for row in rows for key in row.fields):
        if column in used or not column:
            continue
        values = [row.fields.get(column) for row in rows]
        if any(value not in (None, "") for value in values):
            metadata[column] = values[0] if all(value == values[0] for value in values) else values
    return metadata


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
