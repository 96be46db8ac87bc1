"""CSV or TSV with one question and its answer a row."""

from collections.abc import Iterator

from vivace.data.lines import Lines, peek
from vivace.data.readers import tables
from vivace.data.readers.tables import Record
from vivace.data.rows import Raw, Reject
from vivace.domain import Message

SLOTS = {
    "prompt": ("prompt", "question", "input", "user", "query", "instruction"),
    "response": ("response", "answer", "completion", "output", "assistant", "reply"),
}
OPTIONAL_SYSTEM = {"system": ("system", "system_prompt")}
OPTIONAL_CONVERSATION = {"conversation_id": tables.CONVERSATION}


class ExchangeTable:
    """Reads rows of prompt and response; rows of one conversation_id, if there is such a column, are its turns."""

    NEEDS = "columns prompt, response"

    def recognizes(self, first: list[str]) -> bool:
        """Tell whether the header names both columns, by any of their names."""
        table = tables.header(first)
        return table is not None and tables.match(table[1], SLOTS) is not None

    def read(self, lines: Lines) -> Iterator[Raw | Reject]:
        """Yield one conversation a row, or one for each conversation_id."""
        table = tables.header(peek(lines.path, 1))
        found = tables.match(table[1], SLOTS) if table else None
        if table is None or found is None:
            return
        system = tables.match(table[1], OPTIONAL_SYSTEM)
        thread = tables.match(table[1], OPTIONAL_CONVERSATION)
        columns = {**found, **(system or {}), **(thread or {})}
        conversations: dict[str, list[Record]] = {}
        for record in tables.records(lines):
            if isinstance(record, Reject):
                yield record
            elif thread and (key := record.fields[thread["conversation_id"]].strip()):
                conversations.setdefault(key, []).append(record)
            else:
                yield _conversation([record], columns, "")
        for key, rows in conversations.items():
            yield _conversation(tables.chronological(rows, table[1]), columns, key)


READER = ExchangeTable()


def _conversation(rows: list[Record], columns: dict[str, str], own_id: str) -> Raw:
    messages: list[Message] = []
    if "system" in columns and (text := rows[0].fields[columns["system"]]):
        messages.append(Message("system", text))
    for row in rows:
        messages.append(Message("user", row.fields[columns["prompt"]]))
        messages.append(Message("assistant", row.fields[columns["response"]]))
    metadata = tables.extra(rows, set(columns.values()))
    first = min(row.line for row in rows)
    return Raw(first, tuple(messages), (), own_id or str(metadata.pop("id", "")), metadata, records=len(rows))
