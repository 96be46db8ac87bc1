"""OpenAI's chat completions, as OpenAI, Azure, vLLM, TGI, llama.cpp, Ollama and Mistral speak them."""

import json
from collections.abc import Mapping
from typing import Any

from vivace.config.providers import ProviderSettings
from vivace.domain import FinishReason, Message, Request, Usage
from vivace.engines.remote.dialect import Reader, dressed, tokens
from vivace.engines.remote.failures import Told
from vivace.errors import RequestError

_FINISH: dict[str, FinishReason] = {
    "stop": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "eos": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
    "model_length": "length",
    "max_tokens": "length",
}
_THOUGHTS = ("reasoning_content", "reasoning", "reasoning_text")


class OpenAIDialect:
    """`POST {base_url}/chat/completions`."""

    endpoint = "/chat/completions"

    def __init__(self, settings: ProviderSettings) -> None:
        self._settings = settings
        self._learned: dict[str, str] = {}

    def headers(self) -> dict[str, str]:
        """Return nothing: the key is all that this protocol needs."""
        return {}

    def key_header(self) -> tuple[str, str]:
        """Return where the key goes: Azure has a header of its own."""
        name = self._settings.auth or ("api-key" if self._settings.api_version else "bearer")
        return ("Authorization", "Bearer ") if name == "bearer" else (name, "")

    def body(self, request: Request) -> dict[str, Any]:
        """Return a chat completion request."""
        settings, sampling = self._settings, request.sampling
        body: dict[str, Any] = {
            "model": settings.model,
            "messages": [_turn(message) for message in request.messages],
            "max_tokens": sampling.max_tokens,
            "temperature": sampling.temperature,
        }
        if sampling.top_p < 1:
            body["top_p"] = sampling.top_p
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if sampling.seed is not None:
            body["seed"] = sampling.seed
        if request.tools:
            body["tools"] = list(request.tools)
        if sampling.ignore_eos:
            if not settings.ignore_eos:
                raise RequestError("The provider cannot be asked to go on after the end of its turn.", "ignore_eos")
            body["ignore_eos"] = True
        if settings.stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        return dressed(body, settings.extra, self._learned | settings.fields)

    def adapt(self, told: Told) -> bool:
        """Learn the newer name of `max_tokens`, and to do without `stream_options`."""
        said = f"{told.param} {told.message}"
        found: dict[str, str] = {}
        if "max_tokens" in said and "max_completion_tokens" in said:
            found["max_tokens"] = "max_completion_tokens"
        if "stream_options" in said:
            found["stream_options"] = ""
        found = {name: value for name, value in found.items() if name not in self._settings.fields}
        self._learned |= found
        return bool(found)

    def reader(self) -> "OpenAIReader":
        """Return a reader for one answer."""
        return OpenAIReader()


class OpenAIReader(Reader):
    """Reads `chat.completion.chunk` events, or one `chat.completion`; of several choices the first."""

    def event(self, data: Mapping[str, Any]) -> str:
        """Return the text that a chunk adds."""
        return self._read(data, "delta")

    def whole(self, data: Mapping[str, Any]) -> str:
        """Return the text of a completion in one piece."""
        return self._read(data, "message")

    def _read(self, data: Mapping[str, Any], part: str) -> str:
        if isinstance(usage := data.get("usage"), dict):
            self._count(usage)
        choices = data.get("choices")
        if not isinstance(choices, list):
            return ""
        text = ""
        for choice in choices:
            if not isinstance(choice, dict) or choice.get("index", 0) not in (0, None):
                continue
            delta = choice.get(part)
            if isinstance(delta, dict):
                text += self._said(delta)
            if isinstance(reason := choice.get("finish_reason"), str) and reason:
                self._end(reason)
        return text

    def _said(self, delta: Mapping[str, Any]) -> str:
        if any(delta.get(name) for name in _THOUGHTS):
            self.thought = True
        calls = delta.get("tool_calls")
        for place, call in enumerate(calls if isinstance(calls, list) else ()):
            self._call(place, call)
        if isinstance(old := delta.get("function_call"), dict):
            self._call(0, {"function": old})
        text = self._text(delta.get("content"))
        return text + (delta["refusal"] if isinstance(delta.get("refusal"), str) else "")

    def _text(self, content: Any) -> str:
        if isinstance(content, str):
            return content
        text = ""
        for part in content if isinstance(content, list) else ():  # Mistral's models that think
            if isinstance(part, dict) and isinstance(part.get("text"), str):
                text += part["text"]
            else:
                self.thought = True
        return text

    def _call(self, place: int, call: Any) -> None:
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict):
            return
        self.thought = True
        index, arguments = call.get("index"), function.get("arguments")
        if isinstance(arguments, dict):  # some servers send the object itself
            arguments = json.dumps(arguments, ensure_ascii=False)
        self._calls.add(
            index if isinstance(index, int) else place,
            call_id=call["id"] if isinstance(call.get("id"), str) else "",
            name=function["name"] if isinstance(function.get("name"), str) else "",
            arguments=arguments if isinstance(arguments, str) else "",
        )

    def _end(self, reason: str) -> None:
        if self.finish is not None or self.filtered:
            return  # some proxies say it twice
        self.finish = _FINISH.get(reason)
        self.filtered = reason == "content_filter"
        if self.finish is None and not self.filtered:
            self.strange = reason

    def _count(self, usage: Mapping[str, Any]) -> None:
        read, written = tokens(usage, "prompt_tokens"), tokens(usage, "completion_tokens")
        if read is None or written is None:
            return
        details = usage.get("prompt_tokens_details")
        cached = tokens(details, "cached_tokens") if isinstance(details, dict) else None
        self.usage = Usage(read, written, min(cached or 0, read))


def _turn(message: Message) -> dict[str, Any]:
    # "developer" is OpenAI's newer word, which others do not know; OpenAI reads the older one alike.
    turn: dict[str, Any] = {"role": "system" if message.role == "developer" else message.role}
    turn["content"] = message.content
    if message.name:
        turn["name"] = message.name
    if message.tool_calls:
        turn["content"] = message.content or None
        turn["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.function.name, "arguments": call.function.arguments},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id:
        turn["tool_call_id"] = message.tool_call_id
    return turn
