"""Topics of conversations: a sample is grouped by meaning, the groups are named, the rest is told by a classifier."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from vivace.config.data import DataSettings
from vivace.data.corpus.corpus import Corpus
from vivace.data.corpus.spool import batches
from vivace.data.labels.clusters import find_clusters
from vivace.data.labels.naming import name_groups
from vivace.data.labels.openings import opening
from vivace.data.trail import StepTrail
from vivace.index.embedders import Embedder

OTHER = "other"
MIN_SIZE = 3
MIN_SHARE = 0.005  # smaller groups are "other"
CLASSIFIED_AT_ONCE = 10_000
CHECKED_SHARE = 0.2


class Topics(Struct, frozen=True):
    """How many conversations have which topic, the largest first, and how they were found.

    `silhouette` in [-1, 1] tells how clearly the groups are apart; `agreement` is the share of sampled conversations,
    unseen by the classifier, that it gives the topic of their group, None if nothing was left to classify.
    """

    counts: dict[str, int]
    embedded: int
    classified: int
    silhouette: float
    agreement: float | None = None


def label_topics(corpus: Corpus, settings: DataSettings, embedder: Embedder, trail: StepTrail) -> Topics:
    """Annotate every row of the corpus that has no topic of its own with `topic`.

    A seeded sample of `label.max_embedded` openings is embedded and grouped; a linear classifier on their words labels
    the others.
    """
    own = {place: row.example.metadata["topic"] for place, row in corpus.rows() if "topic" in row.example.metadata}
    places = np.array([place for place in corpus.places() if place not in own], np.int64)
    sample = sample_places(places, settings.label.max_embedded, settings.seed)
    texts = [opening(row.example.messages) for _place, row in corpus.rows(sample.tolist())]
    names, clarity = group(texts, embedder, settings.label.max_topics)
    topics = dict(zip(sample.tolist(), names, strict=True))
    rest = np.setdiff1d(places, sample)
    agreement = None
    if len(rest):
        classifier = _Classifier(texts, names)
        agreement = classifier.agreement
        for batch in batches(rest.tolist(), CLASSIFIED_AT_ONCE):
            openings = [opening(row.example.messages) for _place, row in corpus.rows(batch)]
            topics.update(zip(batch, classifier.topics(openings), strict=True))
    corpus.annotate("topic", topics)
    trail.changes["topic by meaning"] += len(sample)
    trail.changes["topic by classifier"] += len(rest)
    trail.changes["topic of your own"] += len(own)
    counts = Counter([*topics.values(), *map(str, own.values())])
    ranked = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
    return Topics(ranked, len(sample), len(rest), clarity, agreement)


def group(texts: Sequence[str], embedder: Embedder, max_topics: int) -> tuple[list[str], float]:
    """Return the topic of each text and the silhouette of the groups; empty texts and tiny groups are `other`."""
    topics = [OTHER] * len(texts)
    told = [place for place, text in enumerate(texts) if text]
    if not told:
        return topics, 0.0
    telling = [texts[place] for place in told]
    clusters = find_clusters(embedder.embed(telling), max_topics)
    sizes = np.bincount(clusters.labels)
    large = int((sizes >= max(MIN_SIZE, MIN_SHARE * len(told))).sum()) or 1  # the largest come first
    groups = np.minimum(clusters.labels, large).tolist()
    names = [*name_groups(telling, groups, large + 1)[:large], OTHER]
    for place, number in zip(told, groups, strict=True):
        topics[place] = names[number]
    return topics, clusters.silhouette


def sample_places(places: np.ndarray, size: int, seed: int) -> np.ndarray:
    """Return at most `size` of the places, a seeded sample, in order."""
    if len(places) <= size:
        return places
    return np.sort(np.random.default_rng(seed).choice(places, size, replace=False))


class _Classifier:
    """Tells the topic of an opening from its words."""

    def __init__(self, texts: Sequence[str], topics: Sequence[str]) -> None:
        self.agreement = self._checked(texts, topics)
        self._model = _fitted(texts, topics)

    def topics(self, texts: Sequence[str]) -> list[str]:
        """Return a topic for each text."""
        told = self._model.predict(texts)
        return [str(topic) if text else OTHER for topic, text in zip(told, texts, strict=True)]

    @staticmethod
    def _checked(texts: Sequence[str], topics: Sequence[str]) -> float | None:
        order = np.random.default_rng(0).permutation(len(texts))
        checked = order[: int(CHECKED_SHARE * len(texts))]
        learned = order[len(checked) :]
        if not len(checked):
            return None
        model = _fitted([texts[place] for place in learned], [topics[place] for place in learned])
        told = model.predict([texts[place] for place in checked])
        return float(np.mean([topic == topics[place] for topic, place in zip(told, checked, strict=True)]))


def _fitted(texts: Sequence[str], topics: Sequence[str]) -> Any:
    from sklearn.dummy import DummyClassifier
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.pipeline import make_pipeline
    from sklearn.svm import LinearSVC

    decider = LinearSVC(random_state=0) if len(set(topics)) > 1 else DummyClassifier()
    words = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), token_pattern=r"\S+")
    return make_pipeline(words, decider).fit(texts, topics)
