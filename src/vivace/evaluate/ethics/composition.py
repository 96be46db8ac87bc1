"""Who the training data speaks of: how many conversations mention each group, and what is out of balance."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Example, Score
from vivace.evaluate.ethics.contrast import share_score
from vivace.evaluate.ethics.groups import Dimension
from vivace.evaluate.ethics.swaps import mentioned

FEWEST_MENTIONS = 20
LOPSIDED = 0.8
"""A group that makes up more than this of a dimension's mentions, interval included, is told as an imbalance."""


class Mentions(Struct, frozen=True):
    """The mentions of a dimension's groups; `shares` are of all mentions, one conversation counting once a group."""

    dimension: str
    conversations: int
    mentioning: int
    counts: dict[str, int]
    shares: dict[str, Score]
    warning: str = ""


def count_mentions(
    examples: Sequence[Example], dimensions: Sequence[Dimension], settings: EvaluateSettings
) -> list[Mentions]:
    """Return who is mentioned in the examples, by dimension, with a warning where one group is nearly alone."""
    texts = [[message.content for message in example.messages if message.role != "system"] for example in examples]
    return [_mentions(texts, dimension, settings) for dimension in dimensions]


def _mentions(texts: Sequence[Sequence[str]], dimension: Dimension, settings: EvaluateSettings) -> Mentions:
    found = [mentioned(each, dimension) for each in texts]
    counts = Counter({name: 0 for name in dimension.groups})
    counts.update(name for names in found for name in names)
    total = counts.total()
    shares = {
        name: share_score(name, [True] * count + [False] * (total - count), settings)
        for name, count in counts.items()
        if total
    }
    mentioning = sum(bool(names) for names in found)
    return Mentions(
        dimension.name, len(texts), mentioning, dict(counts), shares, _warning(dimension, counts, shares, mentioning)
    )


def _warning(dimension: Dimension, counts: Counter[str], shares: dict[str, Score], mentioning: int) -> str:
    total = counts.total()
    if total < FEWEST_MENTIONS:
        return ""
    most = max(shares, key=lambda name: shares[name].value)
    if shares[most].interval.low <= LOPSIDED:
        return ""
    low, high = shares[most].interval.low, shares[most].interval.high
    never = [name for name, count in counts.items() if not count]
    others = f" Never mentioned: {', '.join(never)}." if never else ""
    return (
        f"Of {mentioning:,} conversations that mention {dimension.name}, {shares[most].value:.0%} "
        f"[{low:.0%}, {high:.0%}] of the mentions are {most}: the model learns little about the others.{others}"
    )
