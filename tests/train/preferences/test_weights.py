"""Weights that take length and numbers out of what is learned."""

import numpy as np
import pytest

from vivace.train.batches.rows import IGNORED, Row
from vivace.train.preferences.rows import Pair, Preferences, Rated
from vivace.train.preferences.weights import class_weights, even_pairs, even_ratings


def row(length: int) -> Row:
    return Row((1,) * (length + 1), (IGNORED, *(1,) * length))


def pairs(longer: int, shorter: int, equal: int = 0) -> Preferences:
    answers = (row(9), row(4), row(4))
    made = [Pair(0, 1)] * longer + [Pair(1, 0)] * shorter + [Pair(1, 2)] * equal
    return Preferences(answers, pairs=tuple(made))


def test_longer_and_shorter_preferred_answers_weigh_alike_once_length_tells_too_much() -> None:
    found, bias = even_pairs(pairs(8, 2), limit=0.1)
    assert bias.reweighted
    assert bias.longer_preferred == pytest.approx(0.8)
    assert bias.correlation > 0.5
    assert sum(pair.share for pair in found[:8]) == pytest.approx(sum(pair.share for pair in found[8:]))
    assert sum(pair.share for pair in found) == pytest.approx(10)


def test_pairs_are_left_as_they_are_below_the_limit_and_where_nothing_can_be_weighed() -> None:
    for material, limit in ((pairs(6, 4), 0.1), (pairs(8, 2), 0.5), (pairs(5, 0), 0.1), (pairs(2, 8), 0.1)):
        found, bias = even_pairs(material, limit)
        assert not bias.reweighted
        assert found == material.pairs
    assert even_pairs(pairs(0, 0, equal=3), 0.1)[1].longer_preferred == 0.5


def test_long_and_short_answers_are_good_equally_often_once_length_tells_too_much() -> None:
    lengths = [4] * 10 + [9] * 10
    good = [i < 3 for i in range(10)] + [i < 8 for i in range(10)]
    ratings = tuple(Rated(place, is_good) for place, is_good in enumerate(good))
    found, bias = even_ratings(Preferences(tuple(map(row, lengths)), ratings=ratings), 0.1)
    assert bias.reweighted
    liked = np.array([rated.good for rated in found])
    shares = np.array([rated.share for rated in found])
    halves = [shares[at][liked[at]].sum() / shares[at].sum() for at in (slice(10), slice(10, 20))]
    assert halves[0] == pytest.approx(halves[1])
    assert shares.sum() == pytest.approx(20)
    assert even_ratings(Preferences(tuple(map(row, lengths)), ratings=ratings), 0.5)[0] == ratings


def test_long_and_short_are_split_where_both_kinds_are_on_both_sides() -> None:
    lengths = [4] * 4 + [8] * 2 + [5] * 2 + [9] * 12  # bad ones up to 8, most good ones above
    good = [False] * 6 + [True] * 14
    material = Preferences(tuple(map(row, lengths)), ratings=tuple(Rated(i, liked) for i, liked in enumerate(good)))
    found, bias = even_ratings(material, 0.1)
    assert bias.reweighted
    shares = np.array([rated.share for rated in found])
    long = np.array(lengths) > 5
    liked = np.array(good)
    assert shares[long & liked].sum() / shares[long].sum() == pytest.approx(
        shares[~long & liked].sum() / shares[~long].sum()
    )
    apart = Preferences((row(4), row(9)), ratings=(Rated(0, False), Rated(1, True)))
    assert even_ratings(apart, 0.1)[0] == apart.ratings


@pytest.mark.parametrize(("good", "bad"), [(10, 10), (12, 10), (3, 10), (40, 10), (4, 3), (1, 100)])
def test_good_and_bad_answers_weigh_in_the_ratio_of_the_paper(good: int, bad: int) -> None:
    weights = class_weights([Rated(0, True)] * good + [Rated(0, False)] * bad)
    ratio = weights[0] * good / (weights[1] * bad)
    assert 1 - 1e-9 <= ratio <= 4 / 3 + 1e-9
    assert min(weights) == 1
    if 1 <= good / bad <= 4 / 3:
        assert weights == (1, 1)
