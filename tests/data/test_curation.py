"""Curation: a small choice covers more than chance, prefers good rows, and says what it gave up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.labeled import planted, row
from vivace.data.balance.curation import choose_useful
from vivace.data.balance.quality import WEIGHTS, quality
from vivace.index.embedders import open_embedder


def vectors_of(seed: int, count: int, size: int = 6) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, size))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_tenth_covers_more_than_a_tenth_by_chance() -> None:
    texts, topics = planted(50)
    told = choose_useful(open_embedder("words").embed(texts), [1.0] * len(texts), 20, 0, topics)
    tenth = told.curve[1]
    assert (tenth["share"], tenth["count"], len(told.chosen)) == (0.1, 20, 20)
    assert tenth["coverage"] > tenth["random_coverage"] + 0.03
    assert tenth["topics"] == 1
    assert {topics[place] for place in told.chosen} == set(topics)


def test_of_equals_the_better_is_chosen() -> None:
    vectors = np.repeat(np.eye(5, dtype=np.float32), 4, axis=0)
    goodness = [0.2, 0.9, 0.5, 0.4] * 5
    told = choose_useful(vectors, goodness, 5, 0)
    assert sorted(told.chosen) == [1, 5, 9, 13, 17]


def test_coverage_is_worth_more_than_a_little_quality() -> None:
    vectors = np.repeat(np.eye(2, dtype=np.float32), [9, 1], axis=0)
    told = choose_useful(vectors, [0.9] * 9 + [0.6], 2, 0)
    assert 9 in told.chosen


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 9_999), st.integers(1, 40), st.integers(0, 50))
def test_a_choice_is_of_different_places_and_the_curve_ends_with_all(seed: int, count: int, wanted: int) -> None:
    vectors = vectors_of(seed, count)
    goodness = np.random.default_rng(seed).random(count).tolist()
    told = choose_useful(vectors, goodness, wanted, seed)
    assert len(set(told.chosen)) == len(told.chosen) == min(wanted, count)
    assert all(0 <= place < count for place in told.chosen)
    coverages = [point["coverage"] for point in told.curve]
    assert coverages == sorted(coverages)
    end = told.curve[-1]
    assert (end["share"], end["count"]) == (1.0, count)
    assert end["coverage"] == end["random_coverage"] == pytest.approx(1, abs=1e-3)
    assert choose_useful(vectors, goodness, wanted, seed) == told


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 9_999), st.integers(2, 25))
def test_lazy_choices_are_those_of_the_plain_greedy_rule(seed: int, count: int) -> None:
    vectors = vectors_of(seed, count)
    goodness = np.random.default_rng(seed + 1).random(count) + 0.1
    alike = np.maximum(vectors @ vectors.T, 0)
    covered, order = np.zeros(count, np.float32), []
    for _ in range(count):
        gains = {
            place: (float(np.maximum(alike[place] - covered, 0).mean()) + 1e-3) * goodness[place]
            for place in range(count)
            if place not in order
        }
        best = max(gains, key=lambda place: gains[place])
        assert gains[best] > 0
        order.append(best)
        covered = np.maximum(covered, alike[best])
    assert choose_useful(vectors, goodness.tolist(), count, seed).chosen == order


def test_nothing_to_choose_from_is_an_empty_choice() -> None:
    told = choose_useful(np.zeros((0, 4), np.float32), [], 3, 0)
    assert (told.chosen, told.curve) == ([], [])


def test_quality_goes_with_every_one_of_its_parts() -> None:
    good = row("Where is it?", "word " * 20, outcome="resolved", sentiment_trend="better")
    assert quality(good) == pytest.approx(1)
    assert sum(WEIGHTS.values()) == pytest.approx(1)
    for worse in (
        row("Where is it?", "No.", outcome="resolved", sentiment_trend="better"),
        row("Where is it?", "word " * 900, outcome="resolved", sentiment_trend="better"),
        row("Where is it?", "word " * 20, outcome="unresolved", sentiment_trend="better"),
        row("Where is it?", "word " * 20, outcome="resolved", sentiment_trend="worse"),
    ):
        assert 0 <= quality(worse) < 0.9
    assert quality(good, doubt=1) == pytest.approx(0.8)
    assert quality(good, repeats=100) < quality(good, repeats=4) < 1
    assert 0.5 < quality(row("Where is it?", "word " * 20)) < 1
