"""Anthropic's messages, as Claude is asked."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from vivace.config.providers import ProviderSettings
from vivace.domain import FinishReason, Message, Request, Usage
from vivace.engines.remote.dialect import Reader, dressed, system_text, tokens
from vivace.engines.remote.failures import Told
from vivace.errors import RequestError

VERSION = "2023-06-01"
_FINISH: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
}


class AnthropicDialect:
    """`POST {base_url}/messages`."""

    endpoint = "/messages"

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings

    def headers(self) -> dict[str, str]:
        """Return the version of the protocol."""
        return {"anthropic-version": self._settings.api_version or VERSION}

    def key_header(self) -> tuple[str, str]:
        """Return where the key goes."""
        name = self._settings.auth or "x-api-key"
        return ("Authorization", "Bearer ") if name == "bearer" else (name, "")

    def body(self, request: Request) -> dict[str, Any]:
        """Return a messages request; the protocol knows no seed."""
        settings, sampling = self._settings, request.sampling
        if sampling.ignore_eos:
            raise RequestError("The provider cannot be asked to go on after the end of its turn.", "ignore_eos")
        if sampling.temperature > 1:
            raise RequestError(
                f"temperature is {sampling.temperature:g}; Anthropic's protocol takes 0 to 1.", "temperature"
            )
        body: dict[str, Any] = {
            "model": settings.model,
            "max_tokens": sampling.max_tokens,
            "messages": _turns(request.messages),
            "temperature": sampling.temperature,
        }
        if system := system_text(request.messages):
            body["system"] = system
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop_sequences"] = list(sampling.stop)
        if request.tools:
            body["tools"] = [_tool(tool) for tool in request.tools]
        if settings.stream:
            body["stream"] = True
        return dressed(body, settings.extra, settings.fields)

    def adapt(self, told: Told) -> bool:
        """Learn nothing: there is one server of this protocol."""
        return False

    def reader(self) -> "AnthropicReader":
        """Return a reader for one answer."""
        return AnthropicReader()


class AnthropicReader(Reader):
    """Reads the events from `message_start` to `message_stop`, or one message; events it does not know are skipped."""

    def __init__(self) -> None:
        super().__init__()
        self._counts: dict[str, int] = {}

    def event(self, data: Mapping[str, Any]) -> str:
        """Return the text that an event adds."""
        match data.get("type"):
            case "message_start" if isinstance(message := data.get("message"), dict):
                self._count(message.get("usage"))
            case "content_block_start" if isinstance(block := data.get("content_block"), dict):
                return self._block(data.get("index"), block)
            case "content_block_delta" if isinstance(delta := data.get("delta"), dict):
                return self._delta(data.get("index"), delta)
            case "message_delta":
                self._count(data.get("usage"))
                if isinstance(delta := data.get("delta"), dict):
                    self._end(delta.get("stop_reason"))
        return ""

    def whole(self, data: Mapping[str, Any]) -> str:
        """Return the text of a message in one piece."""
        blocks = data.get("content")
        text = ""
        for place, block in enumerate(blocks if isinstance(blocks, list) else ()):
            if isinstance(block, dict):
                text += self._block(place, block)
        self._count(data.get("usage"))
        self._end(data.get("stop_reason"))
        return text

    def _block(self, place: Any, block: Mapping[str, Any]) -> str:
        if block.get("type") == "text":
            return block["text"] if isinstance(block.get("text"), str) else ""
        self.thought = True
        if block.get("type") == "tool_use":
            # A stream begins with an empty object and sends the arguments piece by piece.
            given = block.get("input")
            self._calls.add(
                place,
                call_id=str(block.get("id") or ""),
                name=str(block.get("name") or ""),
                arguments=json.dumps(given, ensure_ascii=False) if given else "",
            )
        return ""

    def _delta(self, place: Any, delta: Mapping[str, Any]) -> str:
        if delta.get("type") == "text_delta":
            return delta["text"] if isinstance(delta.get("text"), str) else ""
        self.thought = True
        if delta.get("type") == "input_json_delta" and isinstance(delta.get("partial_json"), str):
            self._calls.add(place, arguments=delta["partial_json"])
        return ""

    def _end(self, reason: Any) -> None:
        if not isinstance(reason, str) or self.finish is not None:
            return
        self.finish = _FINISH.get(reason)
        self.filtered = reason == "refusal"
        if self.finish is None and not self.filtered:
            self.strange = reason

    def _count(self, usage: Any) -> None:
        if not isinstance(usage, dict):
            return
        for name in ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "output_tokens"):
            if (count := tokens(usage, name)) is not None:
                self._counts[name] = count
        known = self._counts
        # What message_start tells of the output is only its beginning.
        if "input_tokens" in known and "output_tokens" in known:
            cached = known.get("cache_read_input_tokens", 0)
            read = known["input_tokens"] + cached + known.get("cache_creation_input_tokens", 0)
            self.usage = Usage(read, known["output_tokens"], cached)


def _turns(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Return the turns without the system's; those of one side that follow one another become one."""
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message.role in ("system", "developer"):
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    if not turns:
        raise RequestError("The conversation has nothing but system turns or is empty.", "messages")
    return turns


def _blocks(message: Message) -> list[dict[str, Any]]:
    if message.role == "tool":
        return [{"type": "tool_result", "tool_use_id": message.tool_call_id or "", "content": message.content}]
    # Empty text is refused by the server, and says nothing.
    blocks: list[dict[str, Any]] = [{"type": "text", "text": message.content}] if message.content.strip() else []
    for call in message.tool_calls:
        try:
            given = json.loads(call.function.arguments or "{}")
        except ValueError:
            given = None
        if not isinstance(given, dict):
            raise RequestError(f"The arguments of the call of {call.function.name} are no JSON object.", "messages")
        blocks.append({"type": "tool_use", "id": call.id, "name": call.function.name, "input": given})
    return blocks


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    function = tool.get("function")
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise RequestError("A tool has no function with a name.", "tools")
    named = {"name": function["name"], "input_schema": function.get("parameters") or {"type": "object"}}
    return named | ({"description": function["description"]} if function.get("description") else {})
