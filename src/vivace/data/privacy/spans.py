"""A place in a text where personal data of one kind stands."""

from collections.abc import Callable, Iterator

from msgspec import Struct, field


class Span(Struct, frozen=True):
    """`text[start:end]` is personal data; `value` is what makes two mentions the same."""

    start: int
    end: int
    value: str


class Known(Struct):
    """Values found in other turns of the conversation."""

    phones: set[str] = field(default_factory=set)
    orders: set[str] = field(default_factory=set)


NOTHING_KNOWN = Known()
Finder = Callable[[str], Iterator[Span]]


def digits_of(text: str) -> str:
    """Return the ASCII digits of a text."""
    return "".join(char for char in text if "0" <= char <= "9")


def digits_in(text: str) -> int:
    """Return how many ASCII digits a text has."""
    return sum(map(text.count, "0123456789"))
