"""Names for groups of texts, from the words that set each apart.

Class-based TF-IDF: Grootendorst 2022, "BERTopic: Neural topic modeling with a class-based TF-IDF procedure".
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise

from vivace.index.function_words import FUNCTION_WORDS
from vivace.text import normalize_words

TERMS = 3
MIN_SHARE = 0.05  # a term of fewer of a group's texts does not name it
BIGRAM_BONUS = 1.3
MIN_CHARS = 3
SEPARATOR = " / "


def name_groups(texts: Sequence[str], groups: Sequence[int], count: int) -> list[str]:
    """Return a name for each of `count` groups, no two the same, such as "refund / late delivery / gift"."""
    mentions = [Counter[str]() for _ in range(count)]
    sizes = Counter(groups)
    for text, group in zip(texts, groups, strict=True):
        mentions[group].update(_terms(text))
    everywhere = Counter[str]()
    for found in mentions:
        everywhere.update(found)
    average = sum(everywhere.values()) / max(1, count)
    names: list[str] = []
    for group, found in enumerate(mentions):
        least = max(2, MIN_SHARE * sizes[group])
        scores = {
            term: number * math.log1p(average / everywhere[term]) * (BIGRAM_BONUS if " " in term else 1)
            for term, number in found.items()
            if number >= min(least, sizes[group])
        }
        ranked = sorted(scores, key=lambda term: (-scores[term], term))
        names.append(_unused(ranked, names, group))
    return names


def _unused(ranked: list[str], names: list[str], group: int) -> str:
    """Return a name of the best terms that no other group has."""
    chosen = _unlike(ranked)
    for extra in range(TERMS, len(chosen) + 1):
        name = SEPARATOR.join(chosen[:extra])
        if name not in names:
            return name
    name = SEPARATOR.join(chosen) or "various"
    return name if name not in names else f"{name} ({group + 1})"


def _unlike(ranked: list[str]) -> list[str]:
    """Return the terms that share no word, in any of its forms, with a better one."""
    from snowballstemmer import stemmer

    stem = stemmer("english").stemWord
    chosen: list[str] = []
    taken: set[str] = set()
    for term in ranked[: 10 * TERMS]:
        stems = {stem(word) for word in term.split()}
        if not stems & taken:
            chosen.append(term)
            taken |= stems
    return chosen


def _terms(text: str) -> set[str]:
    words = normalize_words(text)
    return set(_single(words)) | set(_pairs(words))


def _single(words: list[str]) -> Iterator[str]:
    return (word for word in words if _tells(word))


def _pairs(words: list[str]) -> Iterator[str]:
    return (f"{a} {b}" for a, b in pairwise(words) if _tells(a) and _tells(b) and a != b)


def _tells(word: str) -> bool:
    return len(word) >= MIN_CHARS and word not in FUNCTION_WORDS and not any(char.isdigit() for char in word)
