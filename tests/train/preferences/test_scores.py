"""What is told of held-out answers."""

import numpy as np
import pytest

from vivace.train.batches.rows import IGNORED, Row
from vivace.train.preferences.rows import Pair, Preferences, Rated
from vivace.train.preferences.scores import auc, held_out_scores


def test_the_area_under_the_curve_is_that_of_scikit_learn() -> None:
    from sklearn.metrics import roc_auc_score

    draw = np.random.default_rng(0)
    for ties in (3, 1000):
        values, good = draw.integers(0, ties, 80), draw.random(80) < 0.3
        assert auc(values, good) == pytest.approx(roc_auc_score(good, values))
    assert auc([1.0, 2.0], [True, True]) == 0.5


def held(talks: int) -> Preferences:
    rows = tuple(Row((1, 2, 3), (IGNORED, 2, 3)) for _ in range(2 * talks))
    return Preferences(
        rows,
        prompts=tuple(i // 2 for i in range(2 * talks)),
        talks=tuple(i // 2 for i in range(2 * talks)),
        pairs=tuple(Pair(2 * i, 2 * i + 1) for i in range(talks)),
        ratings=tuple(Rated(i, i % 2 == 0) for i in range(2 * talks)),
    )


def test_rewards_that_favor_the_good_answers_are_told_with_their_interval() -> None:
    draw = np.random.default_rng(1)
    before = draw.normal(-20, 5, 80)
    moved = np.where(np.arange(80) % 2 == 0, 2.0, -2.0) + draw.normal(0, 3, 80)
    facts = held_out_scores(held(40), before, before + moved, beta=0.1, seed=0)
    assert (facts["pairs"], facts["good"], facts["bad"]) == (40, 40, 40)
    assert facts["reward_accuracy"]["value"] == np.mean(moved[::2] > moved[1::2])
    for name in ("reward_accuracy", "reward_auc"):
        told = facts[name]
        assert 0.5 < told["low"] < told["value"] < told["high"] <= 1
    assert facts["reward_margin"] == pytest.approx(0.1 * np.mean(moved[::2] - moved[1::2]))
    assert facts["mean_log_ratio"] == pytest.approx(moved.mean())
    assert facts["likelihood_auc_before"]["low"] < 0.5 < facts["likelihood_auc_before"]["high"]
    assert facts["likelihood_auc_gain"]["value"] == pytest.approx(
        facts["likelihood_auc"]["value"] - facts["likelihood_auc_before"]["value"]
    )


def test_a_model_that_has_not_moved_tells_nothing_apart() -> None:
    before = np.arange(80.0)
    facts = held_out_scores(held(40), before, before, beta=0.1, seed=0)
    assert facts["reward_accuracy"]["value"] == facts["reward_auc"]["value"] == 0.5
    assert facts["mean_log_ratio"] == 0
