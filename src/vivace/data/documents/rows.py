"""Documents that stand as rows in a file: an id, a title, a text, and what else is known of each."""

import hashlib
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from vivace.data.reading.records import Record, Source
from vivace.data.rows import Reject
from vivace.errors import DataError

_IDS = ("doc_id", "document_id", "id", "_id")
_TITLES = ("title", "name", "heading")
_TEXTS = ("text", "content", "body", "contents")
_NOT_DOCUMENTS = {
    "messages", "conversations", "role", "author", "from", "label", "intent", "prompt", "completion", "instruction",
    "answer", "response", "chosen",
}  # fmt: skip


class TextRow(Struct, frozen=True):
    """A document of a row; `own_id` is "" when the row has none, `sha256` is the row's."""

    own_id: str
    title: str
    text: str
    sha256: str
    metadata: dict[str, Any]


def holds_documents(source: Source) -> bool:
    """Tell whether a file's first rows are documents: a text with a title or a document's id, and no speaker."""
    try:
        keys = set(source.keys)
    except DataError:
        return False
    return bool(keys & set(_TEXTS)) and bool(keys & {"doc_id", "document_id", "title"}) and not keys & _NOT_DOCUMENTS


def text_rows(source: Source) -> Iterator[TextRow | Reject]:
    """Yield a document or a reject for each row."""
    for record in source.records():
        if isinstance(record, Reject):
            yield record
            continue
        found = _text_row(record)
        yield Reject(record.line, found, record.text) if isinstance(found, str) else found


def _text_row(record: Record) -> TextRow | str:
    """Return the document, or what is wrong with it."""
    fields = dict(record.fields)
    text = next((fields.pop(key) for key in _TEXTS if key in fields), None)
    if not isinstance(text, str):
        return "no `text`"
    if not text.strip():
        return "the document is empty"
    own_id = next((fields.pop(key) for key in _IDS if isinstance(fields.get(key), str | int)), "")
    title = next((fields.pop(key) for key in _TITLES if isinstance(fields.get(key), str)), "")
    given = fields.pop("metadata", None)
    metadata = {**given, **fields} if isinstance(given, dict) else fields
    return TextRow(str(own_id), title.strip(), text, hashlib.sha256(record.text.encode()).hexdigest(), metadata)
