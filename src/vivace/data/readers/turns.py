"""Turns as files write them, and what else a row says of its conversation."""

import json
from collections.abc import Callable, Collection, Iterator
from typing import Any, cast

from vivace.data.reading.records import Record, Source
from vivace.data.rows import ROLES, Raw, Reject
from vivace.domain import FunctionCall, Message, Role, ToolCall

SPEAKERS: dict[str, str] = {
    **ROLES,
    "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bard": "assistant", "bing": "assistant",
    "operator": "assistant", "representative": "assistant", "advisor": "assistant", "helpdesk": "assistant",
    "staff": "assistant", "employee": "assistant", "specialist": "assistant", "caller": "user", "guest": "user",
    "buyer": "user", "member": "user", "observation": "tool", "tool_response": "tool", "function_response": "tool",
    "tool_result": "tool", "function_call": "call", "tool_call": "call",
}  # fmt: skip
RATING_KEYS = ("reward", "rating", "feedback", "thumbs", "label")
_RATINGS = {
    "good": 1.0, "bad": 0.0, "up": 1.0, "down": 0.0, "thumbs_up": 1.0, "thumbs_down": 0.0, "like": 1.0, "dislike": 0.0,
    "desirable": 1.0, "undesirable": 0.0, "chosen": 1.0, "rejected": 0.0, "true": 1.0, "false": 0.0,
}  # fmt: skip
_IN_MESSAGE = frozenset(
    {"role", "content", "name", "tool_calls", "tool_call_id", "weight", "function_call", "from", "value", "loss"}
)


class BrokenRow(Exception):
    """Why a record cannot be a conversation."""


def read_rows(source: Source, parse: Callable[[Record], Raw]) -> Iterator[Raw | Reject]:
    """Yield what `parse` makes of each record, and a reject for each that is broken."""
    for record in source.records():
        if isinstance(record, Reject):
            yield record
            continue
        try:
            yield parse(record)
        except BrokenRow as error:
            yield Reject(record.line, str(error), record.text)


def role_of(value: Any) -> str | None:
    """Return the role that a speaker's name stands for; "call" for an assistant's call of a tool."""
    if not isinstance(value, str):
        return None
    return SPEAKERS.get(value) or SPEAKERS.get(value.strip().lower())


def messages_of(listed: Any) -> tuple[Message, ...]:
    """Return the turns of a list; raises `BrokenRow` naming the one that is broken."""
    if not isinstance(listed, list):
        raise BrokenRow(f"the turns are not a list but {type(listed).__name__}")
    return tuple([_message(place, item) for place, item in enumerate(listed, start=1)])


def answer_of(value: Any) -> tuple[Message, ...]:
    """Return an answer that is text, a message or a list of messages."""
    if isinstance(value, str):
        return (Message("assistant", value),)
    return messages_of([{"role": "assistant", **value}] if isinstance(value, dict) else value)


def tools_of(value: Any) -> tuple[dict[str, Any], ...]:
    """Return the tools on offer, given as a list or as JSON text."""
    if isinstance(value, str) and value.strip():
        value = _json(value)
    listed = value or []
    if not isinstance(listed, list) or not all(isinstance(tool, dict) for tool in listed):
        raise BrokenRow("`tools` is not a list of objects")
    return tuple(listed)


def own_id(value: Any) -> str:
    """Return a row's own id as text."""
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def metadata_of(row: dict[str, Any], known: Collection[str], listed: Any = ()) -> dict[str, Any]:
    """Return what `metadata` and the keys that are not `known` say, and keys of single turns as lists."""
    given = row.get("metadata")
    metadata: dict[str, Any] = dict(given) if isinstance(given, dict) else {} if given is None else {"metadata": given}
    for key, value in row.items():
        if key not in known and key != "metadata":
            metadata[key if key not in metadata or metadata[key] == value else f"row_{key}"] = value
    others: set[str] = set()
    for item in listed:
        if not item.keys() <= _IN_MESSAGE:
            others |= item.keys() - _IN_MESSAGE
    for key in sorted(others):
        metadata.setdefault(f"message_{key}", [item.get(key) for item in listed])
    return metadata


def rating_key(source: Source) -> str:
    """Return the key whose values are ratings in all first records that have it, "" for none.

    A score of one to five, or a class number, is no rating: it stays in the metadata.
    """
    for key in (key for name in RATING_KEYS for key in source.keys if key.casefold() == name):
        values = [fields[key] for fields in source.first if fields.get(key) not in (None, "")]
        if values and all(rating(value) is not None for value in values):
            plain_numbers = all(isinstance(value, int) and not isinstance(value, bool) for value in values)
            if not (key.casefold() == "label" and plain_numbers and len({*values}) > 2):
                return key
    return ""


def rating(value: Any) -> float | None:
    """Return 1 for good, 0 for bad, a reward between them, None for what is no rating."""
    if isinstance(value, str):
        text = value.strip().lower().replace(" ", "_").replace("-", "_")
        return _RATINGS.get(text, 1.0 if text in ("1", "1.0") else 0.0 if text in ("0", "0.0", "-1", "_1") else None)
    if isinstance(value, int | float) and (0 <= value <= 1 or value == -1):
        return max(0.0, float(value))
    return None


def _message(place: int, item: Any) -> Message:
    if not isinstance(item, dict):
        raise BrokenRow(f"message {place} is not an object")
    get = item.get
    speaker = get("role") if "role" in item else get("from")
    role = SPEAKERS.get(speaker) if isinstance(speaker, str) else None
    content = get("content") if "content" in item else get("value")
    if role is None:
        role = role_of(speaker)
    if role is None:
        raise BrokenRow(f"message {place} has the role {speaker!r}")
    if role == "call":
        return Message("assistant", tool_calls=_written_calls(place, content))
    text = content if isinstance(content, str) else _content(place, content)
    if item.keys() <= {"role", "content", "from", "value"}:
        return Message(cast(Role, role), text)
    return Message(
        role=cast(Role, role),
        content=text,
        name=_text_or_none(place, "name", get("name")),
        tool_calls=_tool_calls(place, item),
        tool_call_id=_text_or_none(place, "tool_call_id", get("tool_call_id")),
        weight=_weight(place, item),
    )


def _weight(place: int, item: dict[str, Any]) -> float | None:
    weight = item.get("weight")
    if weight is None and isinstance(item.get("loss"), bool):
        weight = int(item["loss"])
    if isinstance(weight, bool) or not isinstance(weight, int | float | None):
        raise BrokenRow(f"message {place} has the weight {weight!r}")
    try:
        return None if weight is None else float(weight)
    except OverflowError as error:
        raise BrokenRow(f"message {place} has a weight that is too large") from error


def _text_or_none(place: int, key: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise BrokenRow(f"message {place} has a `{key}` that is not text")


def _content(place: int, content: Any) -> str:
    if content is None:
        return ""
    if not isinstance(content, list):
        raise BrokenRow(f"message {place} has content that is neither text nor a list of parts")
    texts: list[str] = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise BrokenRow(f"message {place} has a part of type {kind!r}; only text parts can be learned from")
        texts.append(text)
    return "\n".join(texts)


def _tool_calls(place: int, item: dict[str, Any]) -> tuple[ToolCall, ...]:
    calls = item.get("tool_calls") or []
    if item.get("function_call"):
        calls = [{"id": f"call_{place}", "function": item["function_call"]}]
    if not isinstance(calls, list):
        raise BrokenRow(f"message {place} has `tool_calls` that are not a list")
    return tuple(
        _call(place, call.get("function"), str(call.get("id", "")))
        if isinstance(call, dict)
        else _call(place, None, "")
        for call in calls
    )


def _written_calls(place: int, content: Any) -> tuple[ToolCall, ...]:
    """Return the calls that ShareGPT rows write as JSON text."""
    value = _json(content) if isinstance(content, str) else content
    calls = value if isinstance(value, list) else [value]
    return tuple(
        _call(place, call, f"call_{place}_{number}" if number > 1 else f"call_{place}")
        for number, call in enumerate(calls, start=1)
    )


def _call(place: int, function: Any, call_id: str) -> ToolCall:
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise BrokenRow(f"message {place} has a tool call without a function name")
    arguments = function.get("arguments", "{}")
    written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(call_id, FunctionCall(function["name"], written))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
