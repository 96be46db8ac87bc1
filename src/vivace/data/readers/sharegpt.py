"""ShareGPT rows and their variants: turns of `from` and `value` under `conversations`, `conversation` or `items`."""

from collections.abc import Iterator
from typing import Any, ClassVar

from vivace.data.readers.columns import Slots
from vivace.data.readers.turns import (
    BrokenRow,
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
from vivace.domain import Message

TURNS = ("conversations", "conversation", "items", "messages", "dialog", "dialogue")
_SYSTEM = ("system", "system_prompt")


class ShareGPT:
    """Reads human/gpt/system turns, function_call and observation included; `system` and `tools` may stand beside."""

    NEEDS = "a list `conversations` of {from, value}"
    SLOTS: ClassVar[Slots] = {"conversations": TURNS, "system": _SYSTEM, "tools": ("tools",)}

    def recognizes(self, source: Source) -> bool:
        """Tell whether any of the first records has turns of ShareGPT's kind, and nothing to prefer among."""
        return any(
            _turns_key(row) and not {"chosen", "rejected"} <= row.keys() and not _is_openai(row) for row in source.first
        )

    def read(self, source: Source) -> Iterator[Raw | Reject]:
        """Yield a conversation or a reject for each record."""
        rated = rating_key(source)
        yield from read_rows(source, lambda record: _parse(record, source.tags, rated))


READER = ShareGPT()


def turns_of(row: dict[str, Any], tags: dict[str, str]) -> tuple[str, tuple[Message, ...]]:
    """Return the key under which a row has its turns, and the turns with the system prompt; raises `BrokenRow`."""
    key = _turns_key(row) or next((name for name in TURNS if name in row), "")
    if not key:
        raise BrokenRow("no list `conversations`")
    listed = row[key]
    messages = messages_of(
        [turn for item in listed for turn in _plain(item, tags)] if isinstance(listed, list) else listed
    )
    system = next((row[name] for name in _SYSTEM if isinstance(row.get(name), str) and row[name]), "")
    if system and not (messages and messages[0].role == "system"):
        messages = (Message("system", system), *messages)
    return key, messages


def _parse(record: Record, tags: dict[str, str], rated: str) -> Raw:
    row = record.fields
    key, messages = turns_of(row, tags)
    thought = rating(row[rated]) if rated in row and messages and messages[-1].role == "assistant" else None
    known = {key, "tools", "id", *_SYSTEM, *((rated,) if thought is not None else ())}
    listed = [item for item in row[key] if isinstance(item, dict)] if not tags else []
    paired = any("human" in item for item in listed)
    return Raw(
        record.line,
        messages,
        tools_of(row.get("tools")),
        own_id(row.get("id")),
        metadata_of(row, known, () if paired else listed),
        rating=thought,
    )


def _turns_key(row: dict[str, Any]) -> str:
    for key in TURNS:
        listed = row.get(key)
        first = listed[0] if isinstance(listed, list) and listed else None
        if isinstance(first, dict) and (key == "conversations" or first.keys() & {"from", "role", "human"}):
            return key
    return ""


def _is_openai(row: dict[str, Any]) -> bool:
    return _turns_key(row) == "messages" and "role" in row["messages"][0]


def _plain(item: Any, tags: dict[str, str]) -> list[Any]:
    """Return the turns of a list's item: one, or a pair of `human` and `assistant`."""
    if not isinstance(item, dict):
        return [item]
    if "human" in item and "from" not in item and "role" not in item:
        pair = [
            {"role": role, "content": item.get(key)} for role, key in (("user", "human"), ("assistant", "assistant"))
        ]
        return [turn for turn in pair if turn["content"] is not None]
    if not tags:
        return [item]
    named = {tags[f"{role}_tag"]: speaker for role, speaker in _TAGGED.items() if f"{role}_tag" in tags}
    speaker = item.get(tags.get("role_tag", "from"))
    return [
        {
            "from": named.get(speaker, speaker) if isinstance(speaker, str) else speaker,
            "value": item.get(tags.get("content_tag", "value")),
        }
    ]


_TAGGED = {
    "user": "user",
    "assistant": "assistant",
    "observation": "tool",
    "function": "function_call",
    "system": "system",
}
