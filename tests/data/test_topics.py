"""Topics: planted ones are found, named readably, and passed on to what was not embedded."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import normalized_mutual_info_score, silhouette_score

from tests.data.labeled import corpus_of, planted, row
from vivace.config.data import DataSettings
from vivace.data.labels.clusters import find_clusters, silhouette
from vivace.data.labels.naming import name_groups
from vivace.data.labels.topics import OTHER, group, label_topics
from vivace.data.trail import StepTrail
from vivace.errors import VivaceError
from vivace.index.embedders import open_embedder

WORDS = open_embedder("words")


def labeled(max_embedded: int, max_topics: int = 12) -> DataSettings:
    return DataSettings.model_validate({"label": {"max_embedded": max_embedded, "max_topics": max_topics}})


def test_planted_topics_are_found() -> None:
    texts, topics = planted(60)
    found, clarity = group(texts, WORDS, 12)
    assert normalized_mutual_info_score(topics, found) > 0.7
    assert clarity > 0.1


def test_names_are_of_words_that_set_a_group_apart() -> None:
    texts, topics = planted(60)
    order = sorted(set(topics))
    names = name_groups(texts, [order.index(topic) for topic in topics], len(order))
    assert len(set(names)) == len(names)
    for topic, word in (("refund", "refund"), ("delivery", "parcel"), ("account", "password"), ("coffee", "espresso")):
        assert word in names[order.index(topic)]


def test_no_two_groups_have_one_name() -> None:
    names = name_groups(["the same words"] * 9 + ["", "x"], [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 4], 5)
    assert len(set(names)) == 5


def test_what_is_not_embedded_gets_its_topic_from_a_classifier(tmp_path: Path) -> None:
    texts, topics = planted(90)
    corpus = corpus_of([row(text, "I see.") for text in texts], tmp_path)
    trail = StepTrail("topics")
    told = label_topics(corpus, labeled(200), WORDS, trail)
    found = [str(found.example.metadata["topic"]) for _place, found in corpus.rows()]
    assert (told.embedded, told.classified) == (200, 160)
    assert told.agreement is not None
    assert told.agreement > 0.8
    assert normalized_mutual_info_score(topics, found) > 0.6
    assert told.counts == dict(sorted(Counter(found).items(), key=lambda item: (-item[1], item[0])))
    corpus.close()


def test_a_topic_of_your_own_stays(tmp_path: Path) -> None:
    texts, _topics = planted(20)
    rows = [row(text, "I see.", **({"topic": "mine"} if place == 3 else {})) for place, text in enumerate(texts)]
    corpus = corpus_of(rows, tmp_path)
    told = label_topics(corpus, labeled(1000), WORDS, StepTrail("topics"))
    assert corpus.row(3).example.metadata["topic"] == "mine"
    assert told.counts["mine"] == 1
    corpus.close()


def test_the_same_rows_have_the_same_topics(tmp_path: Path) -> None:
    texts, _topics = planted(40)
    runs = []
    for run in "ab":
        corpus = corpus_of([row(text, "I see.") for text in texts], tmp_path / run)
        label_topics(corpus, labeled(100), WORDS, StepTrail("topics"))
        runs.append([found.example.metadata["topic"] for _place, found in corpus.rows()])
        corpus.close()
    assert runs[0] == runs[1]


@pytest.mark.parametrize("texts", [[], ["one text"], ["", ""], ["same text here"] * 30, ["a b c d", "e f g h"]])
def test_little_or_uniform_text_is_no_error(texts: list[str], tmp_path: Path) -> None:
    corpus = corpus_of([row(text, "I see.") for text in texts], tmp_path)
    told = label_topics(corpus, labeled(10), WORDS, StepTrail("topics"))
    assert sum(told.counts.values()) == len(texts)
    assert set(told.counts) <= {OTHER} or any(texts)
    corpus.close()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 40), st.integers(2, 6))
def test_the_silhouette_is_that_of_scikit_learn(seed: int, count: int, groups: int) -> None:
    random = np.random.default_rng(seed)
    points = random.normal(size=(count, 5)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    labels = random.integers(0, min(groups, count - 1), count)
    if 2 <= len(set(labels.tolist())) < count:
        expected = silhouette_score(points, labels, metric="cosine")
        assert silhouette(points, labels) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60), st.integers(1, 8))
def test_clusters_are_numbered_by_size_and_within_bounds(seed: int, count: int, most: int) -> None:
    vectors = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = find_clusters(vectors, most)
    sizes = np.bincount(found.labels)
    assert len(sizes) == len(found.centers) <= most
    assert (np.diff(sizes) <= 0).all()
    assert sizes.min() > 0


@pytest.mark.real
def test_topics_told_in_other_words_are_found_with_the_real_embedder() -> None:
    try:
        minilm = open_embedder("minilm")
    except VivaceError as error:
        pytest.skip(f"the real embedder cannot be had here: {error}")
    texts, topics = planted(40)
    assert normalized_mutual_info_score(topics, group(texts, minilm, 12)[0]) > 0.75
