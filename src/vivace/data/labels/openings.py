"""What a conversation is about, in its customer's first words."""

import re

from vivace.domain import Message

MAX_CHARS = 600
MIN_WORDS = 5  # "Hi there", "Order 5521": too little to tell a topic, so the next turn counts, too
_TELLS_NOTHING = re.compile(r"\[[A-Z_]+_\d+\]|https?://\S+|\S+@\S+|\b[\w-]*\d[\w-]*\b")


def opening(messages: tuple[Message, ...]) -> str:
    """Return the customer's first turns, until they hold five words; placeholders, links and numbers are left out."""
    words: list[str] = []
    for message in messages:
        if message.role == "user" and message.content:
            words.extend(_TELLS_NOTHING.sub(" ", message.content[: 2 * MAX_CHARS]).split())
            if len(words) >= MIN_WORDS:
                break
    return " ".join(words)[:MAX_CHARS]
