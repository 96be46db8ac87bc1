"""Readers of conversation files; each tells from the first records whether a file is its own."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Protocol

from vivace.data.reading.records import Source
from vivace.data.rows import Raw, Reject
from vivace.registry import Registry


class Reader(Protocol):
    """One shape of rows: `NEEDS` says in a few words what a file must have, `SLOTS` which names its columns go by."""

    NEEDS: str
    SLOTS: ClassVar[Mapping[str, Sequence[str]]]

    def recognizes(self, source: Source) -> bool:
        """Tell whether a file has this shape; raises `DataError` when its columns are ambiguous."""
        ...

    def read(self, source: Source) -> Iterator[Raw | Reject]:
        """Yield the conversations, and the records that are broken with the reason."""
        ...


READERS = Registry(
    "reader",
    {
        "openai_chat": "vivace.data.readers.openai_chat:READER",
        "sharegpt": "vivace.data.readers.sharegpt:READER",
        "alpaca": "vivace.data.readers.alpaca:READER",
        "prompt_completion": "vivace.data.readers.prompt_completion:READER",
        "preference": "vivace.data.readers.preference:READER",
        "labeled_queries": "vivace.data.readers.labeled_queries:READER",
        "message_table": "vivace.data.readers.message_table:READER",
        "transcript": "vivace.data.readers.transcript:READER",
    },
)
