"""Groups of vectors close in meaning, as many as the vectors themselves suggest.

Ward's tree on the leading principal components, cut at several sizes, each cut refined by spherical k-means; the
silhouette chooses (Rousseeuw 1987). Nothing is drawn by chance: the same vectors give the same groups.
"""

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from vivace.index.embedders import Vectors

Places = NDArray[np.int64]

MAX_IN_TREE = 4000  # the tree needs the square of it in memory: 64 MB
COMPONENTS = 50
REFINEMENTS = 5
NEARLY_BEST = 0.97  # the fewest groups that are nearly as clear as the clearest cut


class Clusters(Struct, frozen=True):
    """The cluster of each vector, its place in `centers` (unit vectors in the embedder's space), and how clear."""

    labels: Places
    centers: Vectors
    silhouette: float


def find_clusters(vectors: Vectors, max_clusters: int) -> Clusters:
    """Return clusters of unit `vectors`, at most `max_clusters`, the largest first."""
    if len(vectors) < 3 or max_clusters < 2:
        return _finished(np.zeros(len(vectors), np.int64), vectors, 0.0)
    points = _principal(vectors)
    cuts: list[tuple[float, Places]] = []
    for labels in _cuts(points, max_clusters):
        refined = _refine(points, labels)
        cuts.append((silhouette(points, refined), refined))
    best = max(score for score, _labels in cuts)
    score, labels = next(cut for cut in cuts if cut[0] >= NEARLY_BEST * best) if best > 0 else cuts[0]
    return _finished(labels, vectors, score)


def silhouette(points: Vectors, labels: Places) -> float:
    """Return the mean silhouette of unit `points` in cosine distance, in time linear in their number."""
    count = int(labels.max()) + 1
    sizes = np.bincount(labels, minlength=count).astype(np.float64)
    sums = np.zeros((count, points.shape[1]))
    np.add.at(sums, labels, points)
    # The distances of a point to a whole cluster add up to its size minus one inner product with its sum.
    totals = sizes - points @ sums.T
    rows = np.arange(len(points))
    own = sizes[labels]
    within = totals[rows, labels] / np.maximum(own - 1, 1)
    means = totals / np.maximum(sizes, 1)
    means[:, sizes == 0] = np.inf
    means[rows, labels] = np.inf
    nearest = means.min(axis=1)
    if not np.isfinite(nearest).all():
        return 0.0
    widths = np.where(own > 1, (nearest - within) / np.maximum(np.maximum(nearest, within), 1e-12), 0.0)
    return float(widths.mean())


def centers_of(vectors: Vectors, labels: Places, count: int) -> Vectors:
    """Return the unit mean of each cluster, shape (count, dimensions)."""
    sums = np.zeros((count, vectors.shape[1]), np.float64)
    np.add.at(sums, labels, vectors)
    means: Vectors = (sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return means


def _principal(vectors: Vectors) -> Vectors:
    centered = vectors.astype(np.float64) - vectors.mean(axis=0)
    _values, axes = np.linalg.eigh(centered.T @ centered)
    axes = axes[:, ::-1][:, :COMPONENTS]
    # An axis may point either way; without a rule, that would be for the library to choose.
    axes = axes * np.where(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])] < 0, -1, 1)
    points = centered @ axes
    unit: Vectors = (points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)).astype(np.float32)
    return unit


def _cuts(points: Vectors, max_clusters: int) -> list[Places]:
    from scipy.cluster.hierarchy import fcluster, linkage

    treed = points[np.unique(np.linspace(0, len(points) - 1, MAX_IN_TREE).astype(np.int64))]
    tree = linkage(treed, "ward")
    cuts: list[Places] = []
    for count in _counts(min(max_clusters, len(treed) - 1)):
        labels = fcluster(tree, count, "maxclust").astype(np.int64) - 1
        centers = centers_of(treed, labels, int(labels.max()) + 1)
        cuts.append((points @ centers.T).argmax(axis=1))
    return cuts


def _counts(largest: int) -> list[int]:
    """Return the numbers of clusters to try: all up to 12, then a tenth more each time."""
    counts = [2]
    while counts[-1] < largest:
        counts.append(min(largest, max(counts[-1] + 1, round(counts[-1] * 1.1))))
    return [count for count in counts if count <= largest]


def _refine(points: Vectors, labels: Places) -> Places:
    count = int(labels.max()) + 1
    for _ in range(REFINEMENTS):
        moved = (points @ centers_of(points, labels, count).T).argmax(axis=1)
        if (moved == labels).all():
            break
        labels = moved
    return labels


def _finished(labels: Places, vectors: Vectors, score: float) -> Clusters:
    """Number the clusters by size, leaving out empty ones."""
    found, sizes = np.unique(labels, return_counts=True)
    order = found[np.lexsort((found, -sizes))]
    numbers = np.zeros(int(labels.max(initial=0)) + 1, np.int64)
    numbers[order] = np.arange(len(order))
    renumbered = numbers[labels]
    return Clusters(renumbered, centers_of(vectors, renumbered, len(order)), score)
