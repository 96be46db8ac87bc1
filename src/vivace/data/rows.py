"""What passes between readers, cleaning steps and the split."""

from typing import Any

import msgspec
from msgspec import Struct, field

from vivace.domain import Example, Message

ROLES = {
    "user": "user", "customer": "user", "client": "user", "human": "user", "visitor": "user", "requester": "user",
    "end-user": "user", "end_user": "user", "assistant": "assistant", "agent": "assistant", "support": "assistant",
    "bot": "assistant", "chatbot": "assistant", "ai": "assistant", "system": "system", "developer": "developer",
    "tool": "tool", "function": "tool",
}  # fmt: skip
"""What files call the speakers, and what Vivace calls them."""


class Raw(Struct, frozen=True):
    """A conversation as read: `line` is where it starts, `records` how many lines or table rows it took."""

    line: int
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    own_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    records: int = 1


class Reject(Struct, frozen=True):
    """A line that could not be read, why, and the line itself."""

    line: int
    reason: str
    text: str


class Row(Struct):
    """A conversation on its way through cleaning; `group` is the value of `group_by` as read, before redaction."""

    example: Example
    group: str = ""
    held_out: bool = False

    def with_messages(self, messages: tuple[Message, ...]) -> "Row":
        """Return the row with other messages."""
        return Row(msgspec.structs.replace(self.example, messages=messages), self.group, self.held_out)


def is_answer(message: Message) -> bool:
    """Tell whether a message can be the reference: an assistant's text, without tool calls, meant to be learned."""
    return message.role == "assistant" and bool(message.content) and not message.tool_calls and message.weight != 0


def is_turn(message: Message) -> bool:
    """Tell whether a message counts as a turn: something that customer or agent said."""
    return message.role in ("user", "assistant") and bool(message.content)


def render(messages: tuple[Message, ...], limit: int = 2000) -> str:
    """Return the conversation as people read it, cut after `limit` characters."""
    lines: list[str] = []
    for message in messages:
        if message.content:
            lines.append(f"{message.role}: {message.content}")
        lines.extend(
            f"{message.role} calls {call.function.name}({call.function.arguments})" for call in message.tool_calls
        )
    text = "\n".join(lines)
    return text if len(text) <= limit else text[:limit] + " …"
