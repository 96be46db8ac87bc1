"""Who said what."""

from typing import Any, Literal

from msgspec import Struct

Role = Literal["system", "developer", "user", "assistant", "tool"]


class FunctionCall(Struct, frozen=True):
    """A function's name and its arguments as a JSON string, as OpenAI writes them."""

    name: str
    arguments: str


class ToolCall(Struct, frozen=True):
    """One call of a tool, asked for by the assistant."""

    id: str
    function: FunctionCall
    type: Literal["function"] = "function"


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn; `weight` 0 keeps an assistant turn out of the loss, as in OpenAI's fine-tuning files."""

    role: Role
    content: str = ""
    name: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    weight: float | None = None


class Conversation(Struct, frozen=True, omit_defaults=True):
    """Turns in order, with the tools that were on offer."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
