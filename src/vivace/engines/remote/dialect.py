"""What a protocol provides: how a request is written and how its answer is read."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from vivace.domain import FinishReason, Message, Request, Usage
from vivace.engines.remote.failures import Told


class CallParts:
    """Collects tool calls that come in pieces."""

    def __init__(self) -> None:
        self._calls: dict[Any, dict[str, str]] = {}

    def add(self, place: Any, *, call_id: str = "", name: str = "", arguments: str = "") -> None:
        """Add to the call at `place`; another id there is another call, as some servers count them all 0."""
        known = self._calls.get(place)
        if known is not None and call_id and known["id"] and call_id != known["id"]:
            place = (place, call_id)
        call = self._calls.setdefault(place, {"id": "", "name": "", "arguments": ""})
        call["id"] = call["id"] or call_id
        call["name"] += name
        call["arguments"] += arguments

    def text(self) -> str:
        """Return all calls in the form of Hermes and Qwen, which the metrics read."""
        return "\n".join(f"<tool_call>\n{_as_json(call)}\n</tool_call>" for call in self._calls.values())


class Reader(ABC):
    """Reads one answer, event by event or in one piece.

    `finish` is there once the answer is complete, `usage` once the server has told it; `filtered` says that its
    filter cut the answer off; `strange` is a reason for the end that is none; `thought` says that tokens came that
    are not told, such as those of reasoning.
    """

    def __init__(self) -> None:
        self.finish: FinishReason | None = None
        self.usage: Usage | None = None
        self.filtered = False
        self.strange = ""
        self.thought = False
        self._calls = CallParts()

    @abstractmethod
    def event(self, data: Mapping[str, Any]) -> str:
        """Return the text that an event adds."""

    @abstractmethod
    def whole(self, data: Mapping[str, Any]) -> str:
        """Return the text of an answer that came in one piece."""

    def calls(self) -> str:
        """Return the tool calls of the answer as local models write them, empty when there are none."""
        return self._calls.text()


class Dialect(Protocol):
    """A protocol, with what its server calls things."""

    endpoint: str

    def headers(self) -> dict[str, str]:
        """Return the headers of every request, those with secrets left out."""
        ...

    def key_header(self) -> tuple[str, str]:
        """Return the name of the header that carries the key and what stands before the key in it."""
        ...

    def body(self, request: Request) -> dict[str, Any]:
        """Return the body of a request; raises `RequestError` for what the protocol cannot say."""
        ...

    def adapt(self, told: Told) -> bool:
        """Learn from a refusal how the server wants a request written; false where nothing is to be learned."""
        ...

    def reader(self) -> Reader:
        """Return a reader for one answer."""
        ...


def dressed(body: dict[str, Any], extra: Mapping[str, Any], fields: Mapping[str, str]) -> dict[str, Any]:
    """Return a body with its fields called what the server calls them, and with further ones."""
    named = {fields.get(name, name): value for name, value in body.items()}
    named.pop("", None)
    return named | dict(extra)


def tokens(usage: Mapping[str, Any], name: str) -> int | None:
    """Return a count from a usage object, None where there is none."""
    value = usage.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def system_text(messages: Sequence[Message]) -> str:
    """Return what the system says, in one text."""
    return "\n\n".join(turn.content for turn in messages if turn.role in ("system", "developer") and turn.content)


def _as_json(call: Mapping[str, str]) -> str:
    try:
        arguments = json.loads(call["arguments"] or "{}")
    except ValueError:
        arguments = call["arguments"]  # what the model wrote is no JSON: that is its answer
    return json.dumps({"name": call["name"], "arguments": arguments}, ensure_ascii=False)
