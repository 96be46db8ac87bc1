"""The texts in tool calls, tool results and metadata, each with the key it stands under."""

import json
from collections.abc import Callable, Iterator
from typing import Any

from vivace.domain import Example


def fields_of(example: Example, wanted: Callable[[str], bool]) -> Iterator[tuple[str, str]]:
    """Yield key and text or number of every field; only JSON texts that are `wanted` are looked into."""
    for message in (*example.messages, *example.rejected):
        if message.role == "tool" and wanted(message.content):
            yield from _parsed(message.content)
        for call in message.tool_calls:
            if wanted(call.function.arguments):
                yield from _parsed(call.function.arguments)
    yield from _leaves(example.metadata, "")


def _parsed(text: str) -> Iterator[tuple[str, str]]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return
    yield from _leaves(value, "")


def _leaves(value: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _leaves(item, str(name))
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _leaves(item, key)
    elif isinstance(value, int) and not isinstance(value, bool):
        yield key, str(value)
