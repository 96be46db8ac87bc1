"""Readers of conversation files; each tells from the first lines whether a file is its own."""

from collections.abc import Iterator
from typing import Protocol

from vivace.data.lines import Lines
from vivace.data.rows import Raw, Reject
from vivace.registry import Registry


class Reader(Protocol):
    """One file format: `NEEDS` says in a few words what a file must have."""

    NEEDS: str

    def recognizes(self, first: list[str]) -> bool:
        """Tell whether a file with these first lines is in this format; raises `DataError` when it is ambiguous."""
        ...

    def read(self, lines: Lines) -> Iterator[Raw | Reject]:
        """Yield the conversations, and the lines that are broken with the reason."""
        ...


READERS = Registry(
    "reader",
    {
        "openai_chat": "vivace.data.readers.openai_chat:READER",
        "message_table": "vivace.data.readers.message_table:READER",
        "exchange_table": "vivace.data.readers.exchange_table:READER",
    },
)
