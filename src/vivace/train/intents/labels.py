"""Messages and their intents, from a dataset's labels."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from vivace.config.intent import IntentSettings
from vivace.domain import Example, Split
from vivace.errors import DataError
from vivace.store import read_examples

FILES = ("queries.jsonl", "examples.jsonl")
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
HINT = "Give rows an intent (see `intent_field` in [data.label]), such as the rows of a file with `text` and `intent`."


class Labeled(Struct, frozen=True):
    """Messages with the number of their intent; `OUT` is none of them."""

    ids: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    labels: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.texts)

    def at(self, places: Iterable[int]) -> "Labeled":
        """Return the messages at these places."""
        chosen = list(places)
        return Labeled(
            tuple(self.ids[i] for i in chosen),
            tuple(self.texts[i] for i in chosen),
            tuple(self.labels[i] for i in chosen),
        )


class Intents(Struct, frozen=True):
    """The intents that can be learned, the messages of each split, and which intents are too rare."""

    names: tuple[str, ...]
    splits: dict[Split, Labeled]
    rare: dict[str, int]


OUT = -1


def read_intents(dataset: Path, field: str, settings: IntentSettings) -> Intents:
    """Read the labeled messages of a dataset's folder; raises `DataError` where there is nothing to tell apart.

    Of a conversation the user's first message counts. One message with one intent counts once in a split.
    """
    found = {split: _messages(dataset, split, field) for split in SPLITS}
    counts = Counter(label for _id, _text, label in found["train"] if label != settings.out_of_scope)
    names = sorted(name for name, count in counts.items() if count >= settings.min_examples)
    if len(names) < 2:
        raise DataError(
            f"{len(names)} intents have {settings.min_examples} training messages or more (field {field!r}); at least "
            "2 are needed to tell them apart.",
            HINT,
        )
    numbers = {name: number for number, name in enumerate(names)}
    splits = {
        split: Labeled(
            tuple(row[0] for row in rows),
            tuple(row[1] for row in rows),
            tuple(numbers.get(row[2], OUT) for row in rows),
        )
        for split, rows in found.items()
    }
    if not any(label != OUT for label in splits["validation"].labels):
        raise DataError(
            "No validation message has one of the intents, so nothing can tell when to stop or when to abstain.",
            "Raise validation_fraction in [data].",
        )
    everything = Counter(row[2] for rows in found.values() for row in rows)
    rare = {name: count for name, count in sorted(everything.items()) if name not in numbers}
    rare.pop(settings.out_of_scope, None)
    return Intents(tuple(names), splits, rare)


def _messages(dataset: Path, split: Split, field: str) -> list[tuple[str, str, str]]:
    """Return (id, text, label) of each labeled message of a split."""
    rows: dict[tuple[str, str], str] = {}
    for name in FILES:
        if not (dataset / name).is_file():
            continue
        for example in read_examples(dataset / name, split):
            label = example.metadata.get(field)
            text = opening(example)
            if isinstance(label, str | int | bool) and str(label) and text:
                rows.setdefault((text, str(label)), example.id)
    return [(identity, text, label) for (text, label), identity in rows.items()]


def opening(example: Example) -> str:
    """Return the user's first message with anything in it."""
    return next((turn.content.strip() for turn in example.messages if turn.role == "user" and turn.content.strip()), "")
