"""Diversity: repetition is exposed, and the measures are what their papers say."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.data.labeled import planted, row
from vivace.config.data import DataSettings
from vivace.data.balance.composition import composition
from vivace.data.balance.diversity import distinct_n, diversity, spread, vendi
from vivace.data.balance.warnings import warnings
from vivace.index.embedders import open_embedder

WORDS = open_embedder("words")


def unit(rows: np.ndarray) -> np.ndarray:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_a_thousand_rows_with_ten_questions_are_exposed_with_numbers() -> None:
    rows = [row(f"What is thing {number % 10}?", f"Answer {number} of its own.") for number in range(990)]
    rows += [row("what is THING 3", "Another answer.")] * 10
    told = diversity(iter(rows), WORDS)
    assert (told.questions.total, told.questions.distinct) == (1000, 10)
    assert told.questions.most_repeated[0] == ("What is thing 3?", 109)
    assert len(told.questions.most_repeated) == 5
    assert told.answers.distinct == 991
    assert told.vendi is not None
    assert told.vendi < 15
    sentences = warnings(composition(rows, DataSettings()), told)
    assert sentences[0] == (
        '10 distinct questions make up 1,000 conversations; the most repeated, "What is thing 3?", stands in 109.'
    )


def test_different_conversations_raise_no_warning() -> None:
    rows = [row(f"{text} {number}", f"{number} answers to {text}") for number, text in enumerate(planted(40)[0])]
    told = diversity(rows, WORDS)
    assert told.questions.distinct_share == 1
    assert warnings(composition(rows, DataSettings()), told) == []


def test_distinct_n_counts_different_grams_per_gram() -> None:
    assert distinct_n(["a b a b", "A b!"]) == {1: round(2 / 6, 4), 2: round(2 / 4, 4), 3: 1.0}
    assert distinct_n([]) == {1: 0.0, 2: 0.0, 3: 0.0}


def test_vendi_is_the_number_of_wholly_different_things() -> None:
    # Friedman and Dieng 2022, section 3: n orthogonal items score n, equal items score 1.
    assert vendi(np.eye(7, dtype=np.float32)) == pytest.approx(7)
    assert vendi(np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)) == pytest.approx(3)
    assert vendi(np.repeat(np.eye(5, dtype=np.float32)[:1], 9, axis=0)) == pytest.approx(1)
    two = unit(np.array([[1.0, 0.0], [0.6, 0.8]]))  # eigenvalues of K/2 are 0.8 and 0.2
    assert vendi(two) == pytest.approx(math.exp(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2))), abs=0.01)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 25), st.integers(2, 12))
def test_measures_are_within_bounds_and_spread_is_the_mean_of_all_pairs(seed: int, count: int, size: int) -> None:
    vectors = unit(np.random.default_rng(seed).normal(size=(count, size)))
    assert 1 - 0.01 <= vendi(vectors) <= min(count, size) + 0.01
    pairs = [1 - vectors[a] @ vectors[b] for a in range(count) for b in range(a)]
    assert spread(vectors) == pytest.approx(np.mean(pairs), abs=1e-3)


def test_the_sample_is_seeded_and_bounded() -> None:
    rows = [row(f"Where is parcel number {number} of mine", "x") for number in range(1500)]
    told = diversity(rows, seed=1)
    assert told.sampled == 1000
    assert told == diversity(rows, seed=1)


def test_rows_without_questions_or_answers_are_no_error() -> None:
    told = diversity([row(), row("", "")], WORDS)
    assert (told.questions.total, told.answers.total, told.spread, told.vendi) == (0, 0, None, None)
    assert diversity([row("Where is it now, please?", "Here.")]).vendi is None
