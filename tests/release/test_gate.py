"""The gate lets through the cheapest candidate that meets the objective, and tells why not otherwise."""

from pathlib import Path

import msgspec
import pytest

from vivace.domain import Candidate, Comparison, Interval, Latency, Model, Objective, Score, Scorecard, Speed
from vivace.errors import ReleaseRefused
from vivace.release import choose, judge, limits


def card(
    name: str, f1: float, rate: float = 1.0, ttft: float = 100.0, p: float = 0.001, role: str = "candidate"
) -> Scorecard:
    def score(metric: str, value: float) -> Score:
        return Score(metric, value, Interval(value * 0.9, value * 1.1), 100)

    def latency(value: float) -> Latency:
        return Latency(score("p50", value / 2), score("p95", value))

    comparison = Comparison("token_f1", name, "base", f1 - 0.2, Interval(f1 - 0.25, f1 - 0.15), p, p, 100)
    speed = Speed(latency(ttft), latency(20), latency(900), 100, rate, 1.0, 500_000_000, 1.0, 24, 0)
    model = Model(name, Path("model"), "openvino", "int8")
    return Scorecard(
        Candidate(name, "openvino", model, role=role), 135_000_000, (score("token_f1", f1),), (comparison,), speed
    )


BASE = card("base", 0.2, role="baseline")


def test_the_cheapest_of_those_that_meet_the_objective_is_chosen() -> None:
    cards = [BASE, card("slow", 0.41, rate=1), card("fast", 0.405, rate=3), card("fastest but worse", 0.30, rate=9)]
    verdicts = judge(cards, Objective())
    assert [verdict.accepted for verdict in verdicts] == [True, True, False]
    assert choose(cards, verdicts).candidate.name == "fast"


def test_the_baseline_is_never_released() -> None:
    with pytest.raises(ReleaseRefused, match="no candidate to release"):
        choose([BASE], judge([BASE], Objective()))


def test_a_gain_within_noise_is_refused_and_the_figures_are_told() -> None:
    cards = [BASE, card("tuned", 0.21, p=0.4)]
    verdicts = judge(cards, Objective())
    with pytest.raises(ReleaseRefused, match=r"nearest is tuned, which misses: better than the base .*p = 0.4000"):
        choose(cards, verdicts)
    assert choose(cards, judge(cards, Objective(must_beat_base=False))).candidate.name == "tuned"


def test_a_candidate_that_is_significantly_worse_is_refused() -> None:
    cards = [BASE, card("tuned", 0.1, p=0.0001)]
    assert not judge(cards, Objective())[0].accepted


def test_one_that_is_too_slow_is_refused_by_name_and_figure() -> None:
    cards = [BASE, card("tuned", 0.4, ttft=2500)]
    (verdict,) = judge(cards, Objective())
    (miss,) = [reason for reason in verdict.reasons if not reason.met]
    assert miss.detail == "2,500 ms, at most 2,000 ms wanted"
    assert miss.miss == pytest.approx(0.25)
    assert judge(cards, Objective(ttft_ms=3000))[0].accepted
    assert judge(cards, Objective(service_level="none"))[0].accepted


def test_size_and_memory_are_limits_too() -> None:
    cards = [BASE, card("tuned", 0.4)]
    assert not judge(cards, Objective(max_size_bytes=100_000_000))[0].accepted
    assert not judge(cards, Objective(max_memory_bytes=100_000_000))[0].accepted
    assert judge(cards, Objective(max_size_bytes=200_000_000, max_memory_bytes=10**9))[0].accepted


def test_failed_requests_and_missing_measures_are_refused() -> None:
    good = card("tuned", 0.4)
    assert good.speed is not None
    failing = msgspec.structs.replace(good, speed=msgspec.structs.replace(good.speed, failed=1))
    unmeasured = msgspec.structs.replace(good, speed=None)
    unscored = msgspec.structs.replace(good, scores=())
    uncompared = msgspec.structs.replace(good, comparisons=())
    for bad in (failing, unmeasured, unscored, uncompared):
        assert not judge([BASE, bad], Objective())[0].accepted


def test_the_nearest_miss_is_the_one_that_misses_least() -> None:
    cards = [BASE, card("far", 0.4, ttft=9000), card("near", 0.4, ttft=2100)]
    with pytest.raises(ReleaseRefused, match="nearest is near"):
        choose(cards, judge(cards, Objective()))


def test_the_named_service_levels_are_mlperfs() -> None:
    assert limits(Objective(service_level="interactive")) == (500, 30)
    assert limits(Objective(service_level="conversational", tpot_ms=50)) == (2000, 50)
