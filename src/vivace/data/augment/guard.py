"""No copy and no leak: new rows unlike those there are, and free of what validation and test rows say."""

import hashlib
from collections.abc import Iterable
from functools import lru_cache

import numpy as np

from vivace.data.augment.acceptance import Refusal
from vivace.data.corpus.sketches import fingerprint, shingles, words_of
from vivace.domain import Example, Message
from vivace.text import normalize_words

LEAK_WORDS = 13  # the length of overlaps that count as contamination since Brown et al. (2020)
MIN_TURN_WORDS = 4  # anybody may say "yes, thank you very much"


class Guard:
    """Knows every row by its words, and held-out rows by their turns and runs of 13 words."""

    def __init__(self) -> None:
        self._rows: set[bytes] = set()
        self._turns: set[bytes] = set()
        self._parts: list[np.ndarray] = []
        self._runs = np.zeros(0, dtype=np.uint64)

    def learn(self, example: Example) -> None:
        """Take in a row that is there."""
        spoken = words_of(example.messages)
        self._rows.add(fingerprint(spoken))
        if example.split == "train":
            return
        for _role, words in spoken:
            if len(words) >= MIN_TURN_WORDS:
                self._turns.add(_digest(words))
            if len(words) >= LEAK_WORDS:
                self._parts.append(_runs(words))

    def seal(self) -> None:
        """End learning."""
        self._runs = np.unique(np.concatenate([self._runs, *self._parts]))
        self._parts.clear()

    def refuse(self, messages: tuple[Message, ...], new_texts: Iterable[str]) -> Refusal | None:
        """Return why a new row is none, or says what a held-out row says; else None, and the row is known from now on.

        Only `new_texts` are looked at for leaks: the other turns are those of a training row.
        """
        for text in new_texts:
            words = normalize_words(text)
            if len(words) >= MIN_TURN_WORDS and _digest(words) in self._turns:
                return Refusal("a held-out row says the same", text[:120])
            if len(words) >= LEAK_WORDS and self._knows(_runs(words)):
                return Refusal("13 words in a row of a held-out row", text[:120])
        row = fingerprint(words_of(messages))
        if row in self._rows:
            return Refusal("the same as another row")
        self._rows.add(row)
        return None

    def _knows(self, runs: np.ndarray) -> bool:
        """Tell whether any of the runs is a held-out row's: a search for each, as `np.isin` would sort them all."""
        places = np.searchsorted(self._runs, runs)
        inside = places < len(self._runs)
        return bool((self._runs[places[inside]] == runs[inside]).any())


def _runs(words: list[str]) -> np.ndarray:
    return shingles(np.array([_hash(word) for word in words], dtype=np.uint64), LEAK_WORDS)


def _digest(words: list[str]) -> bytes:
    return hashlib.blake2b(" ".join(words).encode(errors="surrogatepass"), digest_size=8).digest()


@lru_cache(maxsize=1 << 17)
def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode(errors="surrogatepass"), digest_size=8).digest())
