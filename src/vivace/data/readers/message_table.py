"""One message a record: tables and help-desk exports."""

from collections.abc import Callable, Iterator
from typing import ClassVar, cast

from vivace.data.readers.columns import (
    CONVERSATION,
    Slots,
    cell,
    chronological,
    conversations,
    extra,
    match,
    optional,
    plain,
)
from vivace.data.readers.speakers import role_of_name, roles_by_opening
from vivace.data.readers.turns import role_of
from vivace.data.reading.records import PRIVATE_NOTE, Record, Source
from vivace.data.rows import ROLES, Raw, Reject
from vivace.domain import Message, Role

REQUIRED: Slots = {
    "conversation_id": CONVERSATION,
    "content": ("content", "text", "message", "body", "utterance", "comment", "plain_body", "message_body"),
}
ROLE: Slots = {
    "role": ("role", "author_role", "author_type", "sender_type", "sender_role", "participant_type", "user_type"),
}
AUTHOR: Slots = {
    "author": ("author", "sender", "speaker", "from", "participant", "author_name", "sender_name", "author_id",
        "sender_id",
    ),
}  # fmt: skip
DIRECTION: Slots = {"direction": ("direction", "inbound", "incoming")}
PRIVATE: Slots = {
    "private": ("private", "is_private", "internal", "is_internal", "internal_note", "is_note"),
    "public": ("public", "is_public"),
    "type": ("type", "message_type", "comment_type", "event_type", "visibility"),
}
_DIRECTIONS = {
    "inbound": "user", "incoming": "user", "in": "user", "received": "user", "true": "user", "1": "user",
    "outbound": "assistant", "outgoing": "assistant", "out": "assistant", "sent": "assistant", "false": "assistant",
    "0": "assistant",
}  # fmt: skip
_YES = {"true", "yes", "1", "y", "t", "x"}
_NO = {"false", "no", "0", "n", "f"}
_NOTES = {"note", "private", "internal", "private_note", "internal_note", "private note", "internal note"}


class MessageTable:
    """Reads rows of conversation, speaker and content; rows of a conversation need not stand together.

    The speaker is told by a column of roles, else by the direction, else by who wrote first: the customer. Private
    notes are set aside.
    """

    NEEDS = "columns conversation_id, role (or author, or direction), content"
    SLOTS: ClassVar[Slots] = {**REQUIRED, **ROLE, **AUTHOR, **DIRECTION, **PRIVATE}

    def recognizes(self, source: Source) -> bool:
        """Tell whether the records name conversation, speaker and content, by any of their names."""
        return match(source, REQUIRED) is not None and bool(
            optional(source, ROLE) or optional(source, AUTHOR) or optional(source, DIRECTION)
        )

    def read(self, source: Source) -> Iterator[Raw | Reject]:
        """Yield broken records and private notes as they come, and conversations as they end."""
        columns = {slot: slot for slot in REQUIRED} | (match(source, REQUIRED) or {})
        columns |= optional(source, PRIVATE)
        roles = _Roles(source, columns)

        def broken(record: Record) -> str:
            if not cell(record, columns["conversation_id"]).strip():
                return f"no {columns['conversation_id']}"
            return PRIVATE_NOTE if _is_private(record, columns) else roles.broken(record)

        for item in conversations(source, lambda record: cell(record, columns["conversation_id"]).strip(), broken):
            if isinstance(item, Reject):
                yield item
                continue
            key, rows = item
            ordered = chronological(rows, source.keys)
            messages = tuple(
                Message(cast(Role, role), cell(row, columns["content"]))
                for row, role in zip(ordered, roles.of(ordered), strict=True)
            )
            metadata = extra(ordered, {columns["conversation_id"], columns["content"], roles.told_by})
            yield Raw(min(row.line for row in rows), messages, (), key, metadata, records=len(rows))


READER = MessageTable()


class _Roles:
    """Who speaks, by the column that tells it for this file."""

    def __init__(self, source: Source, columns: dict[str, str]) -> None:
        direction = optional(source, DIRECTION).get("direction", "")
        author = optional(source, AUTHOR).get("author", "")
        role = optional(source, ROLE).get("role", "")
        self.told_by = role or author or direction
        self._by: Callable[[str], str | None] | None = role_of
        if role or not (author or direction):
            return
        values = [cell(Record(0, fields), author).strip() for fields in source.first] if author else []
        known = sum(role_of(value) is not None for value in values)
        if (direction and 2 * known < len(values)) or not author:
            self.told_by, self._by = direction, lambda value: _DIRECTIONS.get(plain(value))
        elif not known:
            self._by = None

    def broken(self, record: Record) -> str:
        """Return why a record has no speaker, "" if it has one."""
        value = cell(record, self.told_by).strip()
        if self._by is None:
            return "" if value else f"no {self.told_by}"
        if self._by(value) not in (None, "call"):
            return ""
        known = ", ".join(sorted(ROLES if self._by is role_of else _DIRECTIONS))
        return f"{self.told_by} is {value.lower()!r}; known: {known}"

    def of(self, ordered: list[Record]) -> list[str]:
        """Return the roles of a conversation's records."""
        values = [cell(record, self.told_by).strip() for record in ordered]
        if self._by is None:
            roles = roles_by_opening([(value, role_of_name(value)) for value in values])
            return [roles[value] for value in values]
        return [self._by(value) or "user" for value in values]


def _is_private(record: Record, columns: dict[str, str]) -> bool:
    return (
        cell(record, columns.get("private")).strip().lower() in _YES
        or cell(record, columns.get("public")).strip().lower() in _NO
        or cell(record, columns.get("type")).strip().lower() in _NOTES
    )
