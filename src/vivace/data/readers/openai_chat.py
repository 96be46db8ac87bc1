"""OpenAI chat JSON Lines: one conversation a line, under `messages`."""

import json
from collections.abc import Iterator
from typing import Any, cast

import msgspec

from vivace.data.lines import Lines
from vivace.data.rows import ROLES, Raw, Reject
from vivace.domain import FunctionCall, Message, Role, ToolCall

_KNOWN = {"messages", "tools", "metadata", "id"}
_KNOWN_IN_MESSAGE = {"role", "content", "name", "tool_calls", "tool_call_id", "weight", "function_call"}


class BrokenLine(Exception):
    """Why a line cannot be a conversation."""


class OpenAIChat:
    """Reads `{"messages": [...]}` lines; other keys become metadata."""

    NEEDS = "one JSON object a line with a list `messages`"

    def recognizes(self, first: list[str]) -> bool:
        """Tell whether any of the first lines is an object with a list of messages."""
        return any(isinstance(row.get("messages"), list) for row in json_objects(first))

    def read(self, lines: Lines) -> Iterator[Raw | Reject]:
        """Yield a conversation or a reject for each line that is not blank."""
        for number, line in lines:
            if line is None:
                yield Reject(number, "the line is longer than 16 MiB", "")
            elif line.strip():
                try:
                    yield parse(number, line)
                except BrokenLine as error:
                    yield Reject(number, str(error), line)


READER = OpenAIChat()


def json_objects(lines: list[str]) -> list[dict[str, Any]]:
    """Return the lines that are JSON objects."""
    found: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = msgspec.json.decode(line)
        except (msgspec.DecodeError, RecursionError):
            continue
        if isinstance(row, dict):
            found.append(row)
    return found


def parse(number: int, line: str) -> Raw:
    """Return the conversation on one line; raises `BrokenLine` with the reason."""
    try:
        row = msgspec.json.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        raise BrokenLine(f"not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise BrokenLine("not a JSON object")
    listed = row.get("messages")
    if not isinstance(listed, list):
        raise BrokenLine("no list `messages`")
    messages = tuple(_message(place, item) for place, item in enumerate(listed, start=1))
    tools = row.get("tools") or []
    if not isinstance(tools, list) or not all(isinstance(tool, dict) for tool in tools):
        raise BrokenLine("`tools` is not a list of objects")
    return Raw(number, messages, tuple(tools), _own_id(row.get("id")), _metadata(row, listed))


def _own_id(value: Any) -> str:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""


def _metadata(row: dict[str, Any], listed: list[dict[str, Any]]) -> dict[str, Any]:
    given = row.get("metadata")
    metadata: dict[str, Any] = dict(given) if isinstance(given, dict) else {} if given is None else {"metadata": given}
    for key, value in row.items():
        if key not in _KNOWN:
            metadata[key if key not in metadata or metadata[key] == value else f"row_{key}"] = value
    for key in sorted({key for item in listed for key in item} - _KNOWN_IN_MESSAGE):
        metadata.setdefault(f"message_{key}", [item.get(key) for item in listed])
    return metadata


def _message(place: int, item: Any) -> Message:
    if not isinstance(item, dict):
        raise BrokenLine(f"message {place} is not an object")
    role = item.get("role")
    if not isinstance(role, str) or role.strip().lower() not in ROLES:
        raise BrokenLine(f"message {place} has the role {role!r}")
    weight = item.get("weight")
    if isinstance(weight, bool) or not isinstance(weight, int | float | None):
        raise BrokenLine(f"message {place} has the weight {weight!r}")
    return Message(
        role=cast(Role, ROLES[role.strip().lower()]),
        content=_content(place, item.get("content")),
        name=_text_or_none(place, "name", item.get("name")),
        tool_calls=_tool_calls(place, item),
        tool_call_id=_text_or_none(place, "tool_call_id", item.get("tool_call_id")),
        weight=None if weight is None else float(weight),
    )


def _text_or_none(place: int, key: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise BrokenLine(f"message {place} has a `{key}` that is not text")


def _content(place: int, content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise BrokenLine(f"message {place} has content that is neither text nor a list of parts")
    texts: list[str] = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else part
        if not isinstance(text, str):
            kind = part.get("type") if isinstance(part, dict) else type(part).__name__
            raise BrokenLine(f"message {place} has a part of type {kind!r}; only text parts can be learned from")
        texts.append(text)
    return "\n".join(texts)


def _tool_calls(place: int, item: dict[str, Any]) -> tuple[ToolCall, ...]:
    calls = item.get("tool_calls") or []
    if item.get("function_call"):
        calls = [{"id": f"call_{place}", "function": item["function_call"]}]
    if not isinstance(calls, list):
        raise BrokenLine(f"message {place} has `tool_calls` that are not a list")
    found: list[ToolCall] = []
    for call in calls:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise BrokenLine(f"message {place} has a tool call without a function name")
        arguments = function.get("arguments", "{}")
        written = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
        found.append(ToolCall(str(call.get("id", "")), FunctionCall(function["name"], written)))
    return tuple(found)
