"""Labeled queries: what a user said and the intent it has, without an answer."""

from collections.abc import Iterator
from typing import ClassVar

from vivace.data.readers.columns import CONVERSATION, Slots, match, plain
from vivace.data.readers.turns import BrokenRow, metadata_of, own_id, read_rows
from vivace.data.reading.records import Record, Source
from vivace.data.rows import Raw, Reject
from vivace.domain import Message

REQUIRED: Slots = {
    "text": ("text", "utterance", "query", "sentence", "question", "message"),
    "intent": ("intent", "label", "category", "class", "intent_name", "label_text"),
}
_OTHERS = {
    "messages", "conversations", "chosen", "rejected", "title", "doc_id", "answer", "response", "completion", "output",
    "reply", "ideal", *CONVERSATION,
}  # fmt: skip


class LabeledQueries:
    """Reads a text and its label, which becomes the metadata's `intent`; there is nothing to answer."""

    NEEDS = "keys or columns text, intent"
    SLOTS: ClassVar[Slots] = REQUIRED

    def recognizes(self, source: Source) -> bool:
        """Tell whether the records have a text and a label, and neither answer, conversation nor title."""
        return not {plain(key) for key in source.keys} & _OTHERS and match(source, REQUIRED) is not None

    def read(self, source: Source) -> Iterator[Raw | Reject]:
        """Yield a conversation of one turn for each record."""
        columns = {"text": "text", "intent": "intent", **(match(source, REQUIRED) or {})}
        yield from read_rows(source, lambda record: _parse(record, columns))


READER = LabeledQueries()


def _parse(record: Record, columns: dict[str, str]) -> Raw:
    row = record.fields
    text, intent = row.get(columns["text"]), row.get(columns["intent"])
    if not isinstance(text, str):
        raise BrokenRow(f"`{columns['text']}` is not text")
    if isinstance(intent, list | dict) or intent in (None, ""):
        raise BrokenRow(f"`{columns['intent']}` is not a label")
    metadata = metadata_of(row, {*columns.values(), "id"})
    metadata["intent"] = intent if isinstance(intent, str) else str(intent)
    return Raw(record.line, (Message("user", text),), (), own_id(row.get("id")), metadata)
