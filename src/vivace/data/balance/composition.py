"""What a dataset is made of: counts by label, length and people spoken of, in one pass."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct

from vivace.config.data import DataSettings
from vivace.data.balance.group_terms import GROUP_TERMS, GroupTerms
from vivace.data.rows import Row, is_turn

LABELS = ("topic", "sentiment", "outcome", "language", "complexity")
NONE = "(none)"
LENGTHS = (50, 150, 400)  # words
MAX_VALUES = 5000  # different values of one field that are counted; user's own fields may hold anything
MANY = "(further values)"


class Share(Struct, frozen=True):
    """How many conversations, and which fraction of all."""

    count: int
    share: float


class Composition(Struct, frozen=True):
    """Conversations by field and value, the largest first, and those that mention groups of people or own terms."""

    conversations: int
    fields: dict[str, dict[str, Share]]
    groups: dict[str, Share]
    own_terms: dict[str, Share]


def composition(rows: Iterable[Row], settings: DataSettings) -> Composition:
    """Count the rows; a conversation without a value counts as `(none)`, and a field that none has is left out."""
    names = dict.fromkeys((settings.label.intent_field, *LABELS))
    counters = {name: Counter[str]() for name in names}
    lengths, groups, own = Counter[str](), Counter[str](), Counter[str]()
    terms = GroupTerms(settings.balance.group_terms)
    total = 0
    for row in rows:
        total += 1
        for name, counter in counters.items():
            value = _value(row.example.metadata, name)
            counter[value if value in counter or len(counter) < MAX_VALUES else MANY] += 1
        text = "\n".join(message.content for message in row.example.messages if is_turn(message))
        lengths[length_bucket(text)] += 1
        mentioned, mentioned_own = terms.mentioned(text)
        groups.update(mentioned)
        own.update(mentioned_own)
    fields = {name: _shares(counter, total) for name, counter in counters.items() if set(counter) - {NONE}}
    fields["length"] = {name: share(lengths[name], total) for name in _bucket_names() if lengths[name]}
    return Composition(
        conversations=total,
        fields=fields,
        groups={group: share(groups[group], total) for group in GROUP_TERMS},
        own_terms={term: share(own[term], total) for term in settings.balance.group_terms},
    )


def length_bucket(text: str) -> str:
    """Return the range that the number of words falls into, such as `51-150 words`."""
    words = len(text.split())
    return next((name for name, limit in zip(_bucket_names(), LENGTHS, strict=False) if words <= limit), _LONGEST)


def share(count: int, total: int) -> Share:
    """Return a count with its fraction of `total`."""
    return Share(count, round(count / total, 4) if total else 0.0)


_LONGEST = f"over {LENGTHS[-1]} words"


def _bucket_names() -> list[str]:
    starts = (1, *(limit + 1 for limit in LENGTHS))
    return [*(f"{start}-{limit} words" for start, limit in zip(starts, LENGTHS, strict=False)), _LONGEST]


def _value(metadata: Mapping[str, Any], name: str) -> str:
    value = metadata.get(name)
    return NONE if value is None or value == "" else str(value)


def _shares(counter: Counter[str], total: int) -> dict[str, Share]:
    ranked = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    return {value: share(count, total) for value, count in ranked}
