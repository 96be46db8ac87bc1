"""Alpaca rows: instruction, input and output, with history and system prompt if there are any."""

from collections.abc import Iterator
from typing import Any, ClassVar

from vivace.data.readers.columns import Slots, cell, match, optional
from vivace.data.readers.turns import BrokenRow, metadata_of, own_id, rating, rating_key, read_rows, tools_of
from vivace.data.reading.records import Record, Source
from vivace.data.rows import Raw, Reject
from vivace.domain import Message

REQUIRED: Slots = {"instruction": ("instruction",), "output": ("output",)}
OPTIONAL: Slots = {
    "input": ("input",), "history": ("history",), "system": ("system", "system_prompt"), "tools": ("tools",),
    "id": ("id",),
}  # fmt: skip


class Alpaca:
    """Reads rows whose `input` belongs below the `instruction`; `history` holds pairs of earlier turns."""

    NEEDS = "keys or columns instruction, output"
    SLOTS: ClassVar[Slots] = {**REQUIRED, **OPTIONAL}

    def recognizes(self, source: Source) -> bool:
        """Tell whether the records have both keys, and nothing to prefer among."""
        return match(source, REQUIRED) is not None and not {"chosen", "rejected"} & set(source.keys)

    def read(self, source: Source) -> Iterator[Raw | Reject]:
        """Yield one conversation a record."""
        columns = {**{slot: slot for slot in REQUIRED}, **optional(source, self.SLOTS)}
        rated = rating_key(source)
        yield from read_rows(source, lambda record: _parse(record, columns, rated))


READER = Alpaca()


def prompt_of(record: Record, columns: dict[str, str]) -> tuple[Message, ...]:
    """Return system prompt, history and the question with its input below."""
    row = record.fields
    question = "\n".join(text for slot in ("instruction", "input") if (text := cell(record, columns.get(slot))).strip())
    system = cell(record, columns.get("system"))
    return (
        *([Message("system", system)] if system.strip() else []),
        *history_of(row.get(columns.get("history", ""))),
        Message("user", question),
    )


def history_of(value: Any) -> list[Message]:
    """Return earlier turns, given as pairs of question and answer; raises `BrokenRow`."""
    if value in (None, "", []):
        return []
    turns: list[Message] = []
    for pair in value if isinstance(value, list) else [None]:
        if not isinstance(pair, list) or len(pair) != 2 or not all(isinstance(text, str | None) for text in pair):
            raise BrokenRow("`history` is not a list of pairs of question and answer")
        turns += [Message("user", pair[0] or ""), Message("assistant", pair[1] or "")]
    return turns


def _parse(record: Record, columns: dict[str, str], rated: str) -> Raw:
    row = record.fields
    for slot in REQUIRED:
        if not isinstance(row.get(columns[slot]), str):
            raise BrokenRow(f"`{columns[slot]}` is not text")
    thought = rating(row.get(rated))
    known = {*columns.values(), *((rated,) if thought is not None else ())}
    return Raw(
        record.line,
        (*prompt_of(record, columns), Message("assistant", row[columns["output"]])),
        tools_of(row.get(columns.get("tools", ""))),
        own_id(row.get(columns.get("id", ""))),
        metadata_of(row, known),
        rating=thought,
    )
