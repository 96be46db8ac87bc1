"""Drop conversations that are about something else than all the others."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from vivace.config.data import DataSettings
from vivace.data.corpus import Corpus
from vivace.data.corpus.spool import batches
from vivace.data.labels.clusters import find_clusters
from vivace.data.labels.openings import opening
from vivace.data.labels.topics import sample_places
from vivace.data.steps import CorpusStep, Sweep
from vivace.data.trail import StepTrail
from vivace.index.embedders import EMBEDDERS, Embedder, Vectors, open_embedder

MIN_CENTER_SHARE = 0.02  # a smaller group may itself be off the topic
BATCH_SIZE = 2000


def _open(settings: DataSettings) -> Sweep:
    EMBEDDERS.load(settings.label.embedder)  # a wrong name is told before hours of work
    return partial(_sweep, settings=settings)


def _sweep(corpus: Corpus, trail: StepTrail, *, settings: DataSettings) -> None:
    if settings.min_relevance > 0 and len(corpus):
        clean(corpus, trail, settings, open_embedder(settings.label.embedder))


def clean(corpus: Corpus, trail: StepTrail, settings: DataSettings, embedder: Embedder) -> None:
    """Drop rows whose opening is far from the main groups of a sample; held-out rows and empty openings stay.

    Relevance is the cosine to the nearest center of a group with at least 2 % of the sample. Every opening is embedded,
    `label.max_embedded` of them first to find the groups.
    """
    sample = sample_places(corpus.places(), settings.label.max_embedded, settings.seed)
    learned = (row for _place, row in corpus.rows(sample.tolist()) if not row.held_out)
    texts = [text for row in learned if (text := opening(row.example.messages))]
    if not texts:
        return
    vectors = embedder.embed(texts)
    clusters = find_clusters(vectors, settings.label.max_topics)
    sizes = np.bincount(clusters.labels)
    centers = clusters.centers[sizes >= max(MIN_CENTER_SHARE * len(texts), min(2, int(sizes.max())))]
    leaving: dict[int, float] = {}
    for batch in batches(_openings(corpus), BATCH_SIZE):
        scores = relevance(embedder.embed([text for _place, text in batch]), centers)
        trail.changes["openings embedded"] += len(batch)
        for (place, _text), score in zip(batch, scores.tolist(), strict=True):
            if score < settings.min_relevance:
                leaving[place] = score
    for place, score in leaving.items():
        corpus.drop(place, trail, "off topic", f"relevance {score:.2f} < {settings.min_relevance}")


def relevance(vectors: Vectors, centers: Vectors) -> np.ndarray:
    """Return for each unit vector its cosine to the nearest center, shape (n,)."""
    nearest: np.ndarray = (vectors @ centers.T).max(axis=1)
    return nearest


def _openings(corpus: Corpus) -> Iterator[tuple[int, str]]:
    for place, row in corpus.rows():
        if not row.held_out and (text := opening(row.example.messages)):
            yield place, text


STEP = CorpusStep(_open)
