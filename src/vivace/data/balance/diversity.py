"""How many different things a dataset says.

distinct-n: Li et al. 2016, "A Diversity-Promoting Objective Function for Neural Conversation Models". Vendi score:
Friedman and Dieng 2022, "The Vendi Score: A Diversity Evaluation Metric for Machine Learning".
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from vivace.data.labels.openings import opening
from vivace.data.rows import Row, is_answer
from vivace.index.embedders import Embedder, Vectors
from vivace.text import normalize_words

MAX_SAMPLED = 1000
MAX_CHARS = 2000
MOST_REPEATED = 5
ORDERS = (1, 2, 3)


class Repetition(Struct, frozen=True):
    """How many of `total` texts are different, and the most repeated ones with their counts."""

    total: int
    distinct: int
    most_repeated: list[tuple[str, int]]

    @property
    def distinct_share(self) -> float:
        """Different texts per text."""
        return self.distinct / self.total if self.total else 1.0


class Diversity(Struct, frozen=True):
    """Repetition of first questions and last answers over all rows; the rest over a seeded sample of `sampled` rows.

    `distinct_n` are the shares of different words, pairs and triples in answers; `spread` is the mean pairwise cosine
    distance of openings, `vendi` how many wholly different openings would be as diverse as the sample. Both are None
    without an embedder.
    """

    questions: Repetition
    answers: Repetition
    sampled: int
    distinct_n: dict[int, float]
    spread: float | None = None
    vendi: float | None = None


def diversity(rows: Iterable[Row], embedder: Embedder | None = None, seed: int = 0) -> Diversity:
    """Measure rows in one pass; memory grows by a hash for each different question and answer."""
    questions, answers = _Repetitions(), _Repetitions()
    sample = _Reservoir(MAX_SAMPLED, seed)
    for row in rows:
        messages = row.example.messages
        asked = next((message.content for message in messages if message.role == "user" and message.content), "")
        answer = messages[-1].content if messages and is_answer(messages[-1]) else ""
        questions.add(asked)
        answers.add(answer)
        sample.add((opening(messages), answer[:MAX_CHARS]))
    openings = [text for text, _answer in sample.kept if text]
    vectors = embedder.embed(openings) if embedder is not None and openings else None
    return Diversity(
        questions=questions.told(),
        answers=answers.told(),
        sampled=len(sample.kept),
        distinct_n=distinct_n([answer for _text, answer in sample.kept]),
        spread=None if vectors is None else spread(vectors),
        vendi=None if vectors is None else vendi(vectors),
    )


def distinct_n(texts: Sequence[str]) -> dict[int, float]:
    """Return for n = 1, 2, 3 the different n-grams of words per n-gram, in all texts together."""
    seen: dict[int, set[tuple[str, ...]]] = {order: set() for order in ORDERS}
    totals = Counter[int]()
    for text in texts:
        words = normalize_words(text)
        for order in ORDERS:
            grams = list(zip(*(words[start:] for start in range(order)), strict=False))
            seen[order].update(grams)
            totals[order] += len(grams)
    return {order: round(len(seen[order]) / totals[order], 4) if totals[order] else 0.0 for order in ORDERS}


def spread(vectors: Vectors) -> float:
    """Return the mean cosine distance between two different unit vectors."""
    count = len(vectors)
    if count < 2:
        return 0.0
    total = vectors.astype(np.float64).sum(axis=0)
    return round(float(1 - (total @ total - count) / (count * (count - 1))), 4)


def vendi(vectors: Vectors) -> float:
    """Return the exponential of the entropy of the eigenvalues of the cosine similarities divided by their number."""
    if not len(vectors):
        return 0.0
    # V·Vᵀ and Vᵀ·V have the same eigenvalues but for zeros; the smaller matrix is quicker.
    kernel = vectors @ vectors.T if len(vectors) < vectors.shape[1] else vectors.T @ vectors
    values = np.linalg.eigvalsh(kernel.astype(np.float64) / len(vectors))
    values = values[values > 1e-12]
    return round(float(np.exp(-(values * np.log(values)).sum())), 2)


class _Repetitions:
    """Counts equal texts, whatever their case and punctuation; keeps the words of repeated ones only."""

    def __init__(self) -> None:
        self._counts: dict[bytes, int] = {}
        self._texts: dict[bytes, str] = {}

    def add(self, text: str) -> None:
        words = " ".join(normalize_words(text[:MAX_CHARS]))
        if not words:
            return
        key = hashlib.blake2b(words.encode(errors="surrogatepass"), digest_size=8).digest()
        count = self._counts[key] = self._counts.get(key, 0) + 1
        if count == 2:
            self._texts[key] = text[:200]

    def told(self) -> Repetition:
        ranked = sorted(self._texts, key=lambda key: (-self._counts[key], self._texts[key]))[:MOST_REPEATED]
        most = [(self._texts[key], self._counts[key]) for key in ranked]
        return Repetition(sum(self._counts.values()), len(self._counts), most)


class _Reservoir:
    """A uniform sample of a stream (Vitter 1985, algorithm R)."""

    def __init__(self, size: int, seed: int) -> None:
        self.kept: list[Any] = []
        self._size = size
        self._seen = 0
        self._random = np.random.default_rng(seed)

    def add(self, item: Any) -> None:
        self._seen += 1
        if len(self.kept) < self._size:
            self.kept.append(item)
        elif (place := int(self._random.integers(self._seen))) < self._size:
            self.kept[place] = item
