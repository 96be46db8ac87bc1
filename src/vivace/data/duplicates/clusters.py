"""Groups of conversations that are nearly the same: MinHash finds candidates, their true similarity decides."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise

import numpy as np
from msgspec import Struct

from vivace.data.corpus import Corpus
from vivace.data.corpus.sketches import jaccard, shingles

MAX_COMPARED = 64  # of a crowded bucket: so many clusters seen last are compared with each further row
REMEMBERED_PAIRS = 4_000_000
CACHED_SETS = 20_000


class Links:
    """A forest of rows that belong together (union-find); the smallest index stands for its group."""

    def __init__(self, count: int) -> None:
        self._parent = np.arange(count, dtype=np.int64)

    def find(self, item: int) -> int:
        """Return the index that stands for the item's group."""
        parent = self._parent
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = int(parent[item])
        return item

    def join(self, one: int, other: int) -> None:
        """Make one group of two."""
        one, other = sorted((self.find(one), self.find(other)))
        self._parent[other] = one

    def join_equal(self, places: np.ndarray, keys: np.ndarray) -> None:
        """Make one group of all `places` whose keys are equal."""
        for members in runs_of_equal(places, keys):
            for member in members[1:]:
                self.join(int(members[0]), int(member))

    def roots(self) -> np.ndarray:
        """Return for every index the one that stands for its group."""
        parent = self._parent
        while not np.array_equal(parent, parent[parent]):
            parent = parent[parent]
        self._parent = parent
        return parent

    def clusters(self) -> Iterator[list[int]]:
        """Yield the members of each group of more than one, in order."""
        roots = self.roots()
        for members in runs_of_equal(np.arange(len(roots)), roots):
            yield [int(member) for member in members]


class NearDuplicates(Struct, frozen=True):
    """Links between places of a corpus; `skipped` comparisons were left out in crowded buckets."""

    links: Links
    skipped: int
    corpus: Corpus

    def similarity(self, one: int, other: int) -> float:
        """Return the Jaccard similarity of two rows' word 3-grams."""
        words = self.corpus.columns.words
        return jaccard(shingles(words(one)), shingles(words(other)))


def link_near_duplicates(corpus: Corpus, threshold: float) -> NearDuplicates:
    """Return the rows linked, directly or through others, by a Jaccard similarity of at least `threshold`.

    Candidates share the key of a MinHash band (Broder 1997; Leskovec et al., Mining of Massive Datasets, 3.4).
    """
    columns, places = corpus.columns, corpus.places()
    links = Links(len(columns.fingerprints))
    links.join_equal(places, columns.fingerprints[places])
    # Rows of the same words are one: only the first of them is compared.
    places = places[links.roots()[places] == places]
    pairs = _Pairs(corpus, links, threshold)
    for band in range(columns.bands):
        for members in runs_of_equal(places, columns.band(band)[places]):
            pairs.compare(members)
    return NearDuplicates(links, pairs.skipped, corpus)


def runs_of_equal(places: np.ndarray, keys: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the places of each key that several have, in order."""
    if keys.dtype.kind == "V":
        keys = np.unique(keys, return_inverse=True)[1]
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1], True])
    for start, end in pairwise(starts):
        if end - start > 1:
            yield places[order[start:end]]


class _Pairs:
    """Compares the rows of buckets, each pair once."""

    def __init__(self, corpus: Corpus, links: Links, threshold: float) -> None:
        self.skipped = 0
        self._links = links
        self._threshold = threshold
        self._unlike: set[tuple[int, int]] = set()
        words = corpus.columns.words
        self._shingles = lru_cache(maxsize=CACHED_SETS)(lambda place: shingles(words(place)))

    def compare(self, members: np.ndarray) -> None:
        """Link the rows of a bucket that are alike."""
        different: list[int] = []
        for member in map(int, members):
            compared = different[-MAX_COMPARED:]
            self.skipped += len(different) - len(compared)
            for other in reversed(compared):
                if self._links.find(member) != self._links.find(other) and self._alike(member, other):
                    self._links.join(member, other)
            different.append(member)

    def _alike(self, one: int, other: int) -> bool:
        if (other, one) in self._unlike:
            return False
        if jaccard(self._shingles(one), self._shingles(other)) >= self._threshold:
            return True
        if len(self._unlike) < REMEMBERED_PAIRS:
            self._unlike.add((other, one))
        return False
