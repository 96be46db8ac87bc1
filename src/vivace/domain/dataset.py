"""Rows to learn from and to be examined on."""

from typing import Any, Literal

from msgspec import Struct, field

from vivace.domain.message import Message

Split = Literal["train", "validation", "test"]


class Example(Struct, frozen=True, omit_defaults=True):
    """One conversation of a dataset; the last assistant turn is the reference answer.

    `id` and `content_hash` are given at first reading and never change; `source` is `file:line`. `rejected` are the
    turns that somebody liked less than the reference, `rating` is what somebody thought of it: 1 good, 0 bad.
    """

    id: str
    messages: tuple[Message, ...]
    split: Split = "train"
    tools: tuple[dict[str, Any], ...] = ()
    source: str = ""
    content_hash: str = ""
    metadata: dict[str, Any] = field(default_factory=dict)
    rejected: tuple[Message, ...] = ()
    rating: float | None = None

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The turns before the reference answer."""
        return self.messages[:-1]

    @property
    def reference(self) -> str:
        """The text of the reference answer."""
        return self.messages[-1].content
