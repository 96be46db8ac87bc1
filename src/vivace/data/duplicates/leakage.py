"""Prove that no test conversation was learned from: exact, normalized, 13-gram and near-duplicate."""

from collections import Counter
from collections.abc import Iterator

import numpy as np
from msgspec import Struct

from vivace.data.corpus import Corpus
from vivace.data.corpus.sketches import jaccard, ngrams, shingles
from vivace.errors import DataError

NGRAM_WORDS = 13
MAX_COMMON = 10  # a 13-gram in more conversations than this is boilerplate (Brown et al. 2020, appendix C)
MAX_OVERLAP = 0.5
NAMED = 5


class Leak(Struct, frozen=True):
    """A row that is learned from and says what a test row says; both are places. `share` is how much of it."""

    kind: str
    learned: int
    test: int
    share: float


class LeakCheck:
    """Compares rows that are learned from with the `test` places of a corpus.

    What is boilerplate is settled by the first call of `find`: rows that leave later do not change it.
    """

    def __init__(self, corpus: Corpus, test: np.ndarray, threshold: float) -> None:
        self._corpus = corpus
        self._test = test
        self._threshold = threshold
        self._common: np.ndarray | None = None

    def find(self, learned: np.ndarray) -> list[Leak]:
        """Return the leaks from test rows into `learned` places, the strictest kind of each, in order.

        `exact`: the same content as read. `normalized`: the same words. `near_duplicate`: a Jaccard similarity of word
        3-grams of the threshold or more. `ngram_13`: half of a test row's 13-grams, those common to many rows not
        counted (the overlap check of GPT-3, Brown et al. 2020).
        """
        if not len(self._test) or not len(learned):
            return []
        found: dict[int, Leak] = {}
        columns = self._corpus.columns
        for kind, keys in (("exact", columns.hashes), ("normalized", columns.fingerprints)):
            for place, other in _equal(keys, learned, self._test):
                found.setdefault(place, Leak(kind, place, other, 1.0))
        for leak in (*_near(self._corpus, learned, self._test, self._threshold), *self._ngrams(learned)):
            found.setdefault(leak.learned, leak)
        return [found[place] for place in sorted(found)]

    def _ngrams(self, learned: np.ndarray) -> list[Leak]:
        words = self._corpus.columns.words
        of_test = {int(place): shingles(words(int(place)), NGRAM_WORDS) for place in self._test}
        known = np.unique(np.concatenate(list(of_test.values())))
        hits, frequency = _hits(self._corpus, learned, known)
        if self._common is None:
            self._common = known[frequency > MAX_COMMON]
        rare = ~np.isin(known, self._common)
        tests_with: dict[int, list[int]] = {}
        sizes: dict[int, int] = {}
        for place, grams in of_test.items():
            at = np.searchsorted(known, grams)
            at = at[rare[at]]
            sizes[place] = len(at)
            for gram in map(int, at):
                tests_with.setdefault(gram, []).append(place)
        return list(_overlaps({place: at[rare[at]] for place, at in hits.items()}, tests_with, sizes))


def refuse_leaks(corpus: Corpus, leaks: list[Leak]) -> None:
    """Raise `DataError` naming the first leaking rows, if there are any."""
    if not leaks:
        return
    named = [
        f"{corpus.row(leak.learned).example.source} repeats {corpus.row(leak.test).example.source} ({leak.kind})"
        for leak in leaks[:NAMED]
    ]
    more = f" and {len(leaks) - NAMED} more" if len(leaks) > NAMED else ""
    raise DataError(
        f"{len(leaks)} conversations to learn from repeat the test set: {'; '.join(named)}{more}.",
        'Take them out of one of the two, or let Vivace: --set data.on_leakage="drop".',
    )


def _equal(keys: np.ndarray, learned: np.ndarray, test: np.ndarray) -> list[tuple[int, int]]:
    first = {keys[place].tobytes(): int(place) for place in reversed(test)}
    same = np.isin(np.unique(keys, return_inverse=True)[1][learned], np.unique(keys, return_inverse=True)[1][test])
    return [(int(place), first[keys[place].tobytes()]) for place in learned[same]]


def _near(corpus: Corpus, learned: np.ndarray, test: np.ndarray, threshold: float) -> list[Leak]:
    columns = corpus.columns
    leaks: list[Leak] = []
    seen: set[tuple[int, int]] = set()
    for number in range(columns.bands):
        keys = columns.band(number)
        tests: dict[int, list[int]] = {}
        for place in test:
            tests.setdefault(int(keys[place]), []).append(int(place))
        for place in map(int, learned[np.isin(keys[learned], keys[test])]):
            for other in tests[int(keys[place])]:
                if (place, other) in seen:
                    continue
                seen.add((place, other))
                alike = jaccard(shingles(columns.words(place)), shingles(columns.words(other)))
                if alike >= threshold:
                    leaks.append(Leak("near_duplicate", place, other, alike))
    return leaks


def _hits(corpus: Corpus, learned: np.ndarray, known: np.ndarray) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Return by place which of the `known` 13-grams rows have, and in how many rows each is, up to `MAX_COMMON` + 1."""
    hits: dict[int, np.ndarray] = {}
    frequency = np.zeros(len(known), dtype=np.int64)
    for places, flat, counts in corpus.columns.word_blocks(learned):
        grams, runs = ngrams(flat, counts, NGRAM_WORDS)
        at = np.searchsorted(known, grams).clip(max=len(known) - 1)
        # What is common already is not kept: memory does not grow with boilerplate.
        hit = np.flatnonzero((known[at] == grams) & (frequency[at] <= MAX_COMMON))
        if not len(hit):
            continue
        rows = np.searchsorted(np.cumsum(runs), hit, side="right")
        starts = np.flatnonzero(np.r_[True, rows[1:] != rows[:-1]])
        for row, found in zip(rows[starts], np.split(at[hit], starts[1:]), strict=True):
            hits[int(places[row])] = np.unique(found)
            frequency[hits[int(places[row])]] += 1
    return hits, frequency


def _overlaps(hits: dict[int, np.ndarray], tests_with: dict[int, list[int]], sizes: dict[int, int]) -> Iterator[Leak]:
    for place, grams in hits.items():
        shared = Counter(other for gram in map(int, grams) for other in tests_with[gram])
        leak = next((other for other, count in shared.items() if count >= MAX_OVERLAP * sizes[other]), None)
        if leak is not None:
            yield Leak("ngram_13", place, leak, shared[leak] / sizes[leak])
