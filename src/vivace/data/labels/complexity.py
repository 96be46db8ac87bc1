"""How much a conversation asks of who answers it.

Points: customer's turns (3, 6), words of the customer (40, 120), distinct questions (2, 4) and tool calls (1, 3), one
point for the first figure reached and another for the second. Up to 1 point is simple, up to 4 medium, more is complex.
"""

import re
from collections.abc import Iterator

from vivace.domain import Message

COMPLEXITIES = ("simple", "medium", "complex")
TURNS = (3, 6)
WORDS = (40, 120)
QUESTIONS = (2, 4)
TOOL_CALLS = (1, 3)
MAX_SIMPLE = 1
MAX_MEDIUM = 4
_QUESTION = re.compile(r"[^.!?\n]*\?")


def complexity(messages: tuple[Message, ...]) -> str:
    """Return `simple`, `medium` or `complex`."""
    texts = [message.content for message in messages if message.role == "user" and message.content]
    calls = sum(len(message.tool_calls) for message in messages)
    points = (
        _points(len(texts), TURNS)
        + _points(sum(len(text.split()) for text in texts), WORDS)
        + _points(len(set(_questions(texts))), QUESTIONS)
        + _points(calls, TOOL_CALLS)
    )
    return "simple" if points <= MAX_SIMPLE else "medium" if points <= MAX_MEDIUM else "complex"


def _points(figure: int, limits: tuple[int, int]) -> int:
    return sum(figure >= limit for limit in limits)


def _questions(texts: list[str]) -> Iterator[str]:
    for text in texts:
        if "?" in text:
            for question in _QUESTION.findall(text):
                if words := " ".join(question.lower().split()).strip(" ?"):
                    yield words
