"""OpenAI chat rows: one conversation a record, under `messages`."""

from collections.abc import Iterator
from typing import ClassVar

from vivace.data.readers.columns import Slots
from vivace.data.readers.turns import (
    BrokenRow,
    answer_of,
    messages_of,
    metadata_of,
    own_id,
    rating,
    rating_key,
    read_rows,
    tools_of,
)
from vivace.data.reading.records import Record, Source
from vivace.data.rows import Raw, Reject

_KNOWN = frozenset({"messages", "tools", "id"})
_ANSWERS = ("completion", "response")


class OpenAIChat:
    """Reads `{"messages": [...]}`; `completion` or `response` is the answer to them, other keys become metadata."""

    NEEDS = "a list `messages` of {role, content}"
    SLOTS: ClassVar[Slots] = {"messages": ("messages",)}

    def recognizes(self, source: Source) -> bool:
        """Tell whether any of the first records has messages with a role, and nothing to prefer among."""
        return any(
            isinstance(listed := row.get("messages"), list)
            and not (listed and isinstance(listed[0], dict) and "from" in listed[0] and "role" not in listed[0])
            and not {"chosen", "rejected"} <= row.keys()
            for row in source.first
        )

    def read(self, source: Source) -> Iterator[Raw | Reject]:
        """Yield a conversation or a reject for each record."""
        rated = rating_key(source)
        yield from read_rows(source, lambda record: parse(record, rated))


READER = OpenAIChat()


def parse(record: Record, rated: str = "") -> Raw:
    """Return the conversation of a record, with its rating under the key `rated`; raises `BrokenRow`."""
    row = record.fields
    listed = row.get("messages")
    if not isinstance(listed, list):
        raise BrokenRow("no list `messages`")
    messages = messages_of(listed)
    known = set(_KNOWN)
    for key in _ANSWERS:
        value = row.get(key)
        if value is None:
            if key in row:
                known.add(key)
        elif not isinstance(value, str) or not messages or messages[-1].role != "assistant":
            messages += answer_of(value)
            known.add(key)
    thought = rating(row[rated]) if rated in row and messages and messages[-1].role == "assistant" else None
    if thought is not None:
        known.add(rated)
    return Raw(
        record.line,
        messages,
        tools_of(row["tools"]) if "tools" in row else (),
        own_id(row.get("id")),
        metadata_of(row, known, listed),
        rating=thought,
    )
