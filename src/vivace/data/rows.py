"""What passes between readers, cleaning steps and the split."""

from collections.abc import Callable
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
    """A conversation as read: `line` is where it starts, `records` how many lines or table rows it took.

    `rejected` are the turns liked less than the last answer, `rating` what somebody thought of it: 1 good, 0 bad.
    """

    line: int
    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()
    own_id: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    records: int = 1
    rejected: tuple[Message, ...] = ()
    rating: float | None = None


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

    @property
    def is_query(self) -> bool:
        """Tell whether this is one question and nothing more, as labeled intents are."""
        roles = [message.role for message in self.example.messages if message.role not in ("system", "developer")]
        return roles == ["user"]

    @property
    def is_preference(self) -> bool:
        """Tell whether somebody compared or rated the last turn."""
        return bool(self.example.rejected) or self.example.rating is not None

    def with_messages(self, messages: tuple[Message, ...]) -> "Row":
        """Return the row with other messages."""
        return Row(msgspec.structs.replace(self.example, messages=messages), self.group, self.held_out)

    def with_texts(self, change: Callable[[str], str]) -> tuple["Row", str, str]:
        """Return the row with every turn's text changed but tool results, and the first change's before and after.

        Rejected turns change alike. A row that nothing changes is returned itself.
        """
        messages, before, after = _changed(self.example.messages, change)
        rejected, rejected_before, rejected_after = _changed(self.example.rejected, change)
        if messages is self.example.messages and rejected is self.example.rejected:
            return self, "", ""
        example = msgspec.structs.replace(self.example, messages=messages, rejected=rejected)
        if messages is self.example.messages:
            before, after = rejected_before, rejected_after
        return Row(example, self.group, self.held_out), before, after


def _changed(messages: tuple[Message, ...], change: Callable[[str], str]) -> tuple[tuple[Message, ...], str, str]:
    """Return messages with changed texts, the same object if none changed, and the first before and after."""
    changed: list[Message] = []
    first: tuple[str, str] | None = None
    for message in messages:
        text = change(message.content) if message.content and message.role != "tool" else message.content
        if text != message.content:
            first = first or (message.content, text)
            message = msgspec.structs.replace(message, content=text)
        changed.append(message)
    return (tuple(changed), *first) if first else (messages, "", "")


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
