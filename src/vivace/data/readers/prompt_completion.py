"""One question and its answer a record: prompt/completion, query/response/history, question/answer, KTO rows."""

from collections.abc import Iterator
from typing import Any, ClassVar

from vivace.data.readers.alpaca import READER as ALPACA
from vivace.data.readers.alpaca import history_of
from vivace.data.readers.columns import CONVERSATION, Slots, cell, chronological, conversations, extra, match, optional
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
from vivace.data.reading.records import OTHER_KIND, Record, Source
from vivace.data.rows import Raw, Reject
from vivace.domain import Message

REQUIRED: Slots = {
    "prompt": ("prompt", "question", "input", "user", "query", "instruction"),
    "response": ("response", "answer", "completion", "output", "assistant", "reply", "ideal"),
}
OPTIONAL: Slots = {
    "context": ("context",),
    "history": ("history",),
    "system": ("system", "system_prompt"),
    "tools": ("tools",),
    "id": ("id",),
}
THREAD: Slots = {"conversation_id": CONVERSATION}


class PromptCompletion:
    """Reads texts or lists of messages; rows of one conversation_id, if there is such a column, are its turns."""

    NEEDS = "keys or columns prompt, response"
    SLOTS: ClassVar[Slots] = {**REQUIRED, **OPTIONAL, **THREAD}

    def recognizes(self, source: Source) -> bool:
        """Tell whether the records have question and answer, by any of their names, beside what Alpaca needs."""
        keys = set(source.keys)
        if {"messages", "conversations", "chosen", "rejected"} & keys:
            return False
        leave = ("instruction", "input", "output") if ALPACA.recognizes(source) else ()
        return match(source, REQUIRED, leave=leave) is not None

    def read(self, source: Source) -> Iterator[Raw | Reject]:
        """Yield one conversation a record, or one for each conversation_id."""
        columns = {"prompt": "prompt", "response": "response", **(match(source, REQUIRED) or {})}
        columns.update(optional(source, OPTIONAL))
        rated = rating_key(source)
        thread = optional(source, THREAD).get("conversation_id")
        if not thread or not _threaded(source, thread):
            yield from read_rows(source, lambda record: _parse(record, columns, rated))
            return
        for item in conversations(source, lambda record: _key(record, thread), lambda record: _broken(record, columns)):
            yield item if isinstance(item, Reject) else _joined(source, item, {**columns, "thread": thread})


READER = PromptCompletion()


def _threaded(source: Source, thread: str) -> bool:
    """Tell whether a column groups rows: text or numbers, not the turns themselves."""
    return all(isinstance(fields.get(thread), str | int | None) for fields in source.first)


def _key(record: Record, thread: str) -> str:
    return cell(record, thread).strip() or f"\0{record.line}"


def _parse(record: Record, columns: dict[str, str], rated: str) -> Raw:
    row = record.fields
    messages = _turns(record, columns, first=True)
    thought = rating(row.get(rated))
    known = {*columns.values(), *((rated,) if thought is not None else ())}
    return Raw(
        record.line,
        messages,
        tools_of(row.get(columns.get("tools", ""))),
        own_id(row.get(columns.get("id", ""))),
        metadata_of(row, known),
        rating=thought,
    )


def _turns(record: Record, columns: dict[str, str], *, first: bool) -> tuple[Message, ...]:
    row = record.fields
    prompt, response = row.get(columns["prompt"]), row.get(columns["response"])
    for slot, value in (("prompt", prompt), ("response", response)):
        if not isinstance(value, str | list | dict):
            missing = columns[slot] not in row
            raise BrokenRow(f"{OTHER_KIND}: no `{columns[slot]}`" if missing else f"`{columns[slot]}` is not text")
    before: list[Message] = []
    system = cell(record, columns.get("system")) if first else ""
    if system.strip():
        before.append(Message("system", system))
    before += history_of(row.get(columns.get("history", "")))
    before += _asked(prompt, cell(record, columns.get("context")))
    return (*before, *answer_of(response))


def _asked(prompt: Any, context: str) -> tuple[Message, ...]:
    if isinstance(prompt, str):
        return (Message("user", f"{context}\n\n{prompt}" if context.strip() else prompt),)
    return messages_of([{"role": "user", **prompt}] if isinstance(prompt, dict) else prompt)


def _broken(record: Record, columns: dict[str, str]) -> str:
    try:
        _turns(record, columns, first=True)
        tools_of(record.fields.get(columns.get("tools", "")))
    except BrokenRow as error:
        return str(error)
    return ""


def _joined(source: Source, item: tuple[str, list[Record]], columns: dict[str, str]) -> Raw:
    key, rows = item
    ordered = chronological(rows, source.keys)
    messages = tuple(turn for place, row in enumerate(ordered) for turn in _turns(row, columns, first=place == 0))
    metadata = extra(ordered, {column for slot, column in columns.items() if slot != "id"})
    tools = tools_of(ordered[0].fields.get(columns.get("tools", "")))
    own = "" if key.startswith("\0") else key
    return Raw(min(row.line for row in rows), messages, tools, own, metadata, records=len(rows))
