"""What a card shows of a dataset's rows, from one reading of them."""

from collections import Counter
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from vivace.data.card.folder import SPLITS, read_dropped
from vivace.data.rows import is_turn, render
from vivace.domain import Example
from vivace.store.rows import read_examples

FIELDS = ("intent", "topic", "sentiment", "outcome", "language", "complexity")
MAX_SAMPLES = 6
MAX_VALUES = 20
MAX_COUNTED = 5000  # different values of one field: own labels may hold anything
FURTHER = "(further values)"
MAX_KINDS = 500
BARS = 12
_READABLE_TURNS = range(2, 9)
_READABLE_CHARS = range(80, 1500)


class RowFacts(Struct):
    """Counts over all rows, and a few readable rows of different intents or topics."""

    composition: dict[str, dict[str, Counter[str]]]
    turns: Counter[int] = field(default_factory=Counter)
    answer_words: Counter[int] = field(default_factory=Counter)
    splits: Counter[str] = field(default_factory=Counter)
    synthetic: Counter[str] = field(default_factory=Counter)
    words: int = 0
    _chosen: dict[str, tuple[bytes, Example]] = field(default_factory=dict)

    def add(self, example: Example) -> None:
        """Count a row."""
        self.splits[example.split] += 1
        for name, counts in self.composition.items():
            value = example.metadata.get(name)
            if value is not None and value != "" and not isinstance(value, dict | list):
                shown = str(value) if str(value) in counts or len(counts) < MAX_COUNTED else FURTHER
                counts.setdefault(shown, Counter())[example.split] += 1
        self.turns[sum(map(is_turn, example.messages))] += 1
        self.answer_words[len(example.reference.split())] += 1
        self.words += sum(len(message.content.split()) for message in example.messages)
        if example.metadata.get("synthetic"):
            self.synthetic[str(example.metadata.get("augmentation", "not stated"))] += 1
        self._consider(example)

    def samples(self) -> list[Example]:
        """Return readable rows, the same for the same dataset, in a random order that does not depend on the files'."""
        return [example for _key, example in sorted(self._chosen.values(), key=lambda item: item[0])][:MAX_SAMPLES]

    def _consider(self, example: Example) -> None:
        readable = (
            sum(map(is_turn, example.messages)) in _READABLE_TURNS
            and sum(len(message.content) for message in example.messages) in _READABLE_CHARS
        )
        digest = blake2b(example.id.encode(), digest_size=8).digest()
        key = bytes([not readable, bool(example.metadata.get("synthetic"))]) + digest
        # Rows without intent or topic are dealt to kinds by their hash.
        own = example.metadata.get("intent") or example.metadata.get("topic") or digest[0] % MAX_SAMPLES
        kind = str(own) if len(self._chosen) < MAX_KINDS else str(digest[0])
        if kind not in self._chosen or key < self._chosen[kind][0]:
            self._chosen[kind] = (key, example)


def read_facts(dataset: Path, intent_field: str = "intent") -> RowFacts:
    """Return the facts of a dataset folder's rows."""
    facts = RowFacts({name: {} for name in (intent_field, *FIELDS)})
    for example in read_examples(dataset / "examples.jsonl"):
        facts.add(example)
    return facts


def bars(counts: dict[str, Counter[str]]) -> list[dict[str, Any]]:
    """Return the values of a field with their counts by split, the most frequent first; the rest as one."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1].total(), item[0]))
    shown = ranked[:MAX_VALUES]
    if len(ranked) == MAX_VALUES + 1:
        shown = ranked
    elif len(ranked) > MAX_VALUES:
        rest = sum((found for _value, found in ranked[MAX_VALUES:]), Counter[str]())
        shown = [*shown, (f"{len(ranked) - MAX_VALUES:,} more", rest)]
    total = sum(found.total() for _value, found in ranked)
    most = max((found.total() for _value, found in ranked), default=1)
    return [
        {
            "label": value,
            "count": found.total(),
            "share": found.total() / total,
            "parts": [(name, 100 * found[name] / max(most, found.total())) for name in SPLITS if found[name]],
        }
        for value, found in shown
    ]


def histogram(counts: Counter[int]) -> list[dict[str, Any]]:
    """Return at most `BARS` bars of equal width; the last one takes the longest hundredth of the rows."""
    if not counts:
        return []
    ordered = sorted(counts)
    first, total, seen, limit = ordered[0], counts.total(), 0, ordered[-1]
    for value in ordered:
        seen += counts[value]
        if seen >= 0.99 * total:
            limit = value
            break
    width = max(1, -(-(limit - first + 1) // BARS))
    found: Counter[int] = Counter()
    for value, count in counts.items():
        found[min((value - first) // width, (limit - first) // width)] += count
    last = max(found)
    told = []
    for place in range(last + 1):
        low, high = first + place * width, first + (place + 1) * width - 1
        label = str(low) if width == 1 else f"{low}–{high}"
        if place == last and ordered[-1] > high:
            label = f"{low}+"
        told.append({"label": label, "count": found[place], "height": 100 * found[place] / max(found.values())})
    return told


def drop_samples(dataset: Path, reasons: Iterable[str], each: int = 2) -> dict[str, list[dict[str, str]]]:
    """Return the first few dropped rows of each `step: reason`."""
    wanted: dict[str, list[dict[str, str]]] = {reason: [] for reason in reasons}
    for drop in read_dropped(dataset):
        found = wanted.get(f"{drop.step}: {drop.reason}")
        if found is not None and len(found) < each:
            found.append({"id": drop.id, "detail": drop.detail, "text": render(drop.row.messages, 500)})
    return wanted
