"""CSV or TSV with one message a row."""

from collections.abc import Iterator
from typing import cast

from vivace.data.lines import Lines, peek
from vivace.data.readers import tables
from vivace.data.readers.tables import Record
from vivace.data.rows import ROLES, Raw, Reject
from vivace.domain import Message, Role

SLOTS = {
    "conversation_id": tables.CONVERSATION,
    "role": ("role", "author", "sender", "speaker", "from", "author_type", "sender_type", "participant"),
    "content": ("content", "text", "message", "body", "utterance"),
}


class MessageTable:
    """Reads rows of conversation, role and content; rows of a conversation need not stand together."""

    NEEDS = "columns conversation_id, role, content"

    def recognizes(self, first: list[str]) -> bool:
        """Tell whether the header names all three columns, by any of their names."""
        table = tables.header(first)
        return table is not None and tables.match(table[1], SLOTS) is not None

    def read(self, lines: Lines) -> Iterator[Raw | Reject]:
        """Yield broken rows as they come, then the conversations in the order of their first row."""
        table = tables.header(peek(lines.path, 1))
        found = tables.match(table[1], SLOTS) if table else None
        if table is None or found is None:
            return
        conversations: dict[str, list[Record]] = {}
        for record in tables.records(lines):
            if isinstance(record, Reject):
                yield record
                continue
            key = record.fields[found["conversation_id"]].strip()
            role = record.fields[found["role"]].strip().lower()
            if not key:
                yield Reject(record.line, f"no {found['conversation_id']}", record.text)
            elif role not in ROLES:
                yield Reject(
                    record.line, f"{found['role']} is {role!r}; known: {', '.join(sorted(ROLES))}", record.text
                )
            else:
                conversations.setdefault(key, []).append(record)
        for key, rows in conversations.items():
            ordered = tables.chronological(rows, table[1])
            messages = tuple(
                Message(cast(Role, ROLES[row.fields[found["role"]].strip().lower()]), row.fields[found["content"]])
                for row in ordered
            )
            metadata = tables.extra(ordered, set(found.values()))
            yield Raw(rows[0].line, messages, (), key, metadata, records=len(rows))


READER = MessageTable()
