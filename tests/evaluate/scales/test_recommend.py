"""The cheapest that is shown to be enough is recommended; where nothing is shown, nothing is."""

import numpy as np
import pytest

from vivace.evaluate.scales.recommend import Resources, Wishes, recommend
from vivace.evaluate.scales.saturation import Measure

MEASURE = Measure("token_f1")


def rows(means, count=400, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    values = np.array(means)[:, None] + rng.normal(0, 0.2, count)[None] + rng.normal(0, noise, (len(means), count))
    return np.stack((values, np.ones_like(values)), axis=2)


SMALL = Resources("small", 50, 300, 200, 0.1)
MIDDLE = Resources("middle", 150, 600, 500, 0.3)
LARGE = Resources("large", 900, 2_000, 3_000, 2.0)
ALL = [LARGE, SMALL, MIDDLE]
MEANS = [0.62, 0.40, 0.615]


def advise(wishes, means=MEANS, **options):
    return recommend(ALL, rows(means, **options), MEASURE, wishes, resamples=500)


def test_the_cheapest_of_those_that_are_as_good_as_the_best_is_taken() -> None:
    found = advise(Wishes(margin=0.05))
    assert (found.choice, found.carried) == ("middle", "yes")
    assert "least cost" in " ".join(found.reasons)
    assert any("small is not good enough" in reason for reason in found.reasons)


def test_a_wanted_quality_that_the_small_one_has_is_enough() -> None:
    assert advise(Wishes(quality=0.3)).choice == "small"
    assert advise(Wishes(quality=0.5)).choice == "middle"


def test_a_quality_that_none_reaches_recommends_none() -> None:
    found = advise(Wishes(quality=0.95))
    assert (found.choice, found.carried) == ("", "none fits")
    assert "None of the 3 models within the budget reaches a quality of 0.95" in found.reasons[0]


@pytest.mark.parametrize(
    ("limit", "word"),
    [
        (Wishes(margin=0.05, max_disk_mb=100), "disk"),
        (Wishes(margin=0.05, max_memory_mb=400), "memory"),
        (Wishes(margin=0.05, max_latency_ms=300), "time for an answer"),
        (Wishes(margin=0.05, max_cost=0.2), "cost"),
    ],
)
def test_each_limit_of_the_budget_counts(limit: Wishes, word: str) -> None:
    found = advise(limit)
    assert found.choice == "small"
    assert any(reason.startswith("large is out") and word in reason for reason in found.reasons)


def test_a_budget_that_none_keeps_names_the_nearest_miss() -> None:
    found = advise(Wishes(max_disk_mb=10))
    assert (found.choice, found.carried) == ("", "none fits")
    assert "No model is within the budget" in found.reasons[0]


def test_what_is_not_known_is_not_within_a_limit() -> None:
    found = recommend([Resources("unpriced", 10, 10, 10)], rows([0.5]), MEASURE, Wishes(max_cost=1), resamples=200)
    assert found.carried == "none fits"
    assert "not known" in found.reasons[0]


def test_data_that_cannot_tell_carry_no_recommendation() -> None:
    found = advise(Wishes(quality=0.41), means=[0.42, 0.40, 0.415], count=20)
    assert (found.choice, found.carried) == ("", "no")
    assert "The data do not carry a recommendation" in found.reasons[0]
    few = rows([0.42, 0.41, 0.415], count=20)
    few[:, :, 0] += np.array([0.42, 0.41, 0.415])[:, None] - few[:, :, 0].mean(axis=1, keepdims=True)
    cheaper = recommend(ALL, few, MEASURE, Wishes(margin=0.01), resamples=500)
    assert (cheaper.choice, cheaper.carried) == ("large", "no")
    assert "would do as well for less, these questions cannot tell" in cheaper.reasons[0]
    assert "questions show" in " ".join(cheaper.reasons)


@pytest.mark.slow
def test_a_model_that_is_not_enough_is_rarely_recommended() -> None:
    wrong = 0
    for seed in range(1000):
        found = recommend(
            ALL, rows([0.5, 0.5, 0.5], count=60, seed=seed), MEASURE, Wishes(quality=0.51), resamples=200, seed=seed
        )
        wrong += found.carried == "yes"
    assert wrong / 1000 <= 0.05
