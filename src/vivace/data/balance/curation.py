"""The most useful N conversations: good ones that together stand for all, and what is given up without the rest.

Facility location, chosen greedily: Lin and Bilmes 2011, "A Class of Submodular Functions for Document Summarization";
lazy evaluation: Minoux 1978.
"""

import heapq
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from vivace.data.balance.diversity import vendi
from vivace.index.embedders import Vectors

Places = NDArray[np.int64]

MAX_LANDMARKS = 4000
SHARES = tuple(percent / 100 for percent in range(5, 101, 5))
COVERED_GAIN = 1e-3  # once all is covered, quality alone decides


class Curation(Struct, frozen=True):
    """The places chosen, the most useful first, and the curve over shares of the whole.

    A point of the curve: share, count, coverage (mean over conversations of the cosine to the nearest chosen one),
    vendi, quality (mean), topics (share of topics kept), and all four for a random choice of the same size.
    """

    chosen: list[int]
    curve: list[dict[str, Any]]


def choose_useful(
    vectors: Vectors, quality: Sequence[float], count: int, seed: int, topics: Sequence[str] = ()
) -> Curation:
    """Choose `count` of the unit `vectors` by quality and diversity; time and memory grow with n times 4,000.

    Each step takes the one with the largest product of quality and added coverage of 4,000 of the vectors, a seeded
    sample. The curve measures coverage on another such sample, so that it does not flatter the choice.
    """
    if not len(vectors):
        return Curation([], [])
    random = np.random.default_rng(seed)
    drawn = random.permutation(len(vectors)).astype(np.int64)
    landmarks, probes = np.sort(drawn[:MAX_LANDMARKS]), np.sort(drawn[-MAX_LANDMARKS:])
    qualities = np.asarray(quality, np.float64)
    order = _greedy(np.maximum(vectors @ vectors[landmarks].T, 0), qualities)
    by_chance = random.permutation(len(vectors)).astype(np.int64)
    curve: list[dict[str, Any]] = []
    for share, useful, chance in zip(
        SHARES,
        _points(vectors, probes, order, qualities, topics),
        _points(vectors, probes, by_chance, qualities, topics),
        strict=True,
    ):
        of_chance = {f"random_{name}": figure for name, figure in chance.items()}
        curve.append({"share": share, "count": _size(share, len(vectors)), **useful, **of_chance})
    return Curation(order[:count].tolist(), curve)


def _greedy(similarities: NDArray[np.float32], qualities: NDArray[np.float64]) -> Places:
    """Return all places, each the most useful after those before it."""
    covered = np.zeros(similarities.shape[1], np.float32)

    def usefulness(place: int) -> float:
        gain = float(np.maximum(similarities[place] - covered, 0).mean(dtype=np.float64))
        return (gain + COVERED_GAIN) * float(qualities[place])

    # What a row adds only shrinks as others are taken: an old figure is an upper bound, so most need no second look.
    heap = [(-usefulness(place), place) for place in range(len(similarities))]
    heapq.heapify(heap)
    order: list[int] = []
    while heap:
        _bound, place = heapq.heappop(heap)
        useful = usefulness(place)
        if heap and -heap[0][0] > useful:
            heapq.heappush(heap, (-useful, place))
            continue
        order.append(place)
        np.maximum(covered, similarities[place], out=covered)
    return np.array(order, np.int64)


def _points(
    vectors: Vectors, probes: Places, order: Places, qualities: NDArray[np.float64], topics: Sequence[str]
) -> Iterator[dict[str, float]]:
    """Yield what the first 5 %, 10 % … of `order` are worth."""
    covered = np.zeros(len(probes), np.float32)
    kept: set[str] = set()
    done = 0
    for share in SHARES:
        size = _size(share, len(vectors))
        if added := order[done:size].tolist():
            np.maximum(covered, (vectors[added] @ vectors[probes].T).max(axis=0), out=covered)
            kept.update(topics[place] for place in added if topics)
        done = size
        yield {
            "coverage": round(float(covered.mean(dtype=np.float64)), 4),
            "vendi": vendi(vectors[order[:size]]),
            "quality": round(float(qualities[order[:size]].mean()), 4),
            "topics": round(len(kept) / len(set(topics)), 4) if topics else 1.0,
        }


def _size(share: float, count: int) -> int:
    return max(1, round(share * count))
