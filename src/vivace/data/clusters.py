"""Groups of conversations that are nearly the same: MinHash finds candidates, their true similarity decides."""

from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from vivace.data.rows import is_turn
from vivace.domain import Message
from vivace.text import normalize_words

SHINGLE_WORDS = 3
PERMUTATIONS = 256
MAX_MISS = 1e-3
MINHASH_SEED = 1


class Links:
    """A forest of rows that belong together (union-find); the smallest index stands for its group."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def find(self, item: int) -> int:
        """Return the index that stands for the item's group."""
        while self._parent[item] != item:
            self._parent[item] = self._parent[self._parent[item]]
            item = self._parent[item]
        return item

    def join(self, one: int, other: int) -> None:
        """Make one group of two."""
        one, other = sorted((self.find(one), self.find(other)))
        self._parent[other] = one

    def groups(self) -> dict[int, list[int]]:
        """Return the members of each group in order."""
        members: dict[int, list[int]] = {}
        for item in range(len(self._parent)):
            members.setdefault(self.find(item), []).append(item)
        return members


@lru_cache(maxsize=4096)
def words_of(messages: tuple[Message, ...]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return who said which words, in order; tool traffic and system prompts do not count."""
    return tuple((message.role, tuple(normalize_words(message.content))) for message in messages if is_turn(message))


def shingles(messages: tuple[Message, ...]) -> frozenset[str]:
    """Return the runs of three words in what customer and agent said; of shorter texts, the text."""
    words = [word for _role, spoken in words_of(messages) for word in spoken]
    if len(words) < SHINGLE_WORDS:
        return frozenset([" ".join(words)])
    return frozenset(map(" ".join, zip(words, words[1:], words[2:], strict=False)))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Return the share of what either has that both have."""
    common = len(one & other)
    return common / (len(one) + len(other) - common) if common else 0.0


def bands_for(threshold: float) -> tuple[int, int]:
    """Return bands and rows per band of the widest rows that miss a pair at `threshold` at most once in a thousand."""
    for rows in range(16, 1, -1):
        bands = PERMUTATIONS // rows
        if (1 - threshold**rows) ** bands <= MAX_MISS:
            return bands, rows
    return PERMUTATIONS, 1


def link_near_duplicates(conversations: Sequence[tuple[Message, ...]], threshold: float) -> Links:
    """Return the conversations linked, directly or through others, by a Jaccard similarity of at least `threshold`."""
    from rensa import RMinHash, RMinHashLSH

    links = Links(len(conversations))
    bands, rows = bands_for(threshold)
    index = RMinHashLSH(threshold, bands * rows, bands)
    shingles_of = lru_cache(maxsize=8192)(lambda place: shingles(conversations[place]))
    for batch in _batches(range(len(conversations)), 512):
        # Rows of one batch see those inserted before and each other's predecessors.
        sketches = RMinHash.from_token_sets([list(shingles_of(place)) for place in batch], bands * rows, MINHASH_SEED)
        for place, sketch in zip(batch, sketches, strict=True):
            for candidate in sorted(index.query(sketch)):
                if links.find(place) == links.find(candidate):
                    continue
                if jaccard(shingles_of(place), shingles_of(candidate)) >= threshold:
                    links.join(place, candidate)
            index.insert(place, sketch)
    return links


def _batches(items: Iterable[int], size: int) -> Iterator[list[int]]:
    batch: list[int] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
