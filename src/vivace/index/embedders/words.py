"""Words and pieces of words, hashed and projected: no model, no download, close wording only.

Feature hashing: Weinberger et al. 2009; random signs keep inner products as they were on average.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vivace.domain import Progress
from vivace.index.embedders import Vectors
from vivace.index.function_words import FUNCTION_WORDS
from vivace.text import normalize_words

DIMENSIONS = 512
MAX_WORDS = 256
_COPIES = 4  # every feature lands in so many places: a clash of two words then costs a quarter
_BIGRAM_WEIGHT = 0.5
_PIECE_WEIGHT = 0.3

_FUNCTION_WEIGHT = 0.1  # no corpus is seen, so how common a word is cannot be counted


def open(cache: Path | None, progress: Progress) -> "Words":
    """Return the embedder; nothing is fetched."""
    return Words()


class Words:
    """Hashed words, pairs of words and letter 4-grams, weighed and scaled to unit length."""

    name = "words"
    dimensions = DIMENSIONS

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one vector per text, shape (texts, 512); only the first 256 words count."""
        vectors = np.zeros((len(texts), DIMENSIONS), np.float32)
        for line, text in enumerate(texts):
            weights: defaultdict[str, float] = defaultdict(float)
            for feature, weight in _features(normalize_words(text)[:MAX_WORDS]):
                weights[feature] += weight
            for feature, weight in (weights or {"": 1.0}).items():
                places, signs = _projection(feature)
                # Dampened like a term frequency: saying a word ten times is not ten times the meaning.
                vectors[line, places] += signs * np.float32(np.sqrt(weight))
        unit: Vectors = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
        return unit


def _features(words: list[str]) -> Iterator[tuple[str, float]]:
    told = [word for word in words if word not in FUNCTION_WORDS]
    for word in words:
        yield word, _FUNCTION_WEIGHT if word in FUNCTION_WORDS else 1.0
    for first, second in pairwise(told):
        yield f"{first} {second}", _BIGRAM_WEIGHT
    for word in told:
        for start in range(len(word) - 3):
            yield f"#{word[start : start + 4]}", _PIECE_WEIGHT


@lru_cache(maxsize=200_000)
def _projection(feature: str) -> tuple[NDArray[np.int64], Vectors]:
    hashed = hashlib.blake2b(feature.encode(errors="surrogatepass"), digest_size=4 * _COPIES)
    digest = np.frombuffer(hashed.digest(), "<u4")
    # The same place twice in one feature would be lost in a fancy-indexed addition: give each copy its own block.
    block = DIMENSIONS // _COPIES
    places = (digest >> 1) % block + np.arange(_COPIES) * block
    return places, np.where(digest & 1, 1, -1).astype(np.float32)
