"""A recommendation follows from the figures by a rule that is told, and noise is called noise."""

import random

import pytest

from vivace.bench.load import Sample
from vivace.config.evaluate import EvaluateSettings
from vivace.loop.measuring import Likely, Measured
from vivace.loop.recommending import judge, rates

SETTINGS = EvaluateSettings(resamples=500)
EXAMPLES = 40


def model(
    name: str, bits_per_byte: float, ms_per_token: float, *, noise: float = 0.02, tokens: int = 20, seed: int = 0
) -> Measured:
    """A model with about so many bits per byte that takes about so long for a token."""
    source = random.Random(f"{seed} {name}")
    likely = tuple(
        Likely(name, f"e{n}", 50 * (bits_per_byte + source.gauss(0, noise)), tokens, 50) for n in range(EXAMPLES)
    )
    samples = []
    for number in range(12):
        each_s = ms_per_token * source.uniform(0.98, 1.02) / 1e3
        first = 0.1 * ms_per_token
        samples.append(
            Sample(
                f"0/{number}/e{number}", 0.0, 0.0, first + 23 * each_s, first, prompt_tokens=100, completion_tokens=24
            )
        )
    return Measured(name, likely, tuple(samples), 10**8)


GOOD_SLOW, BAD_FAST = model("good", 0.8, 40), model("quick", 1.0, 10)


def test_a_model_that_is_worse_and_slower_is_out_and_named() -> None:
    verdict = judge([GOOD_SLOW, model("poor", 1.2, 80), BAD_FAST], "balance", SETTINGS)
    assert verdict is not None
    assert set(verdict.dominated) == {"poor"}
    assert verdict.choice != "poor"
    assert verdict.scores["good"].value == pytest.approx(0.8, abs=0.02)
    assert verdict.answer_s["quick"] < verdict.answer_s["good"] < verdict.answer_s["poor"]


@pytest.mark.parametrize(("purpose", "choice"), [("quality", "good"), ("speed", "quick")])
def test_the_purpose_decides(purpose: str, choice: str) -> None:
    verdict = judge([GOOD_SLOW, BAD_FAST], purpose, SETTINGS)  # type: ignore[arg-type]
    assert verdict is not None
    assert verdict.choice == choice
    assert verdict.reasons[0].startswith("Rule: ")


def test_balance_pays_five_percent_for_twice_the_speed_and_no_more() -> None:
    def choice(quick_bits: float) -> str:
        verdict = judge([model("good", 1.0, 20), model("quick", quick_bits, 10)], "balance", SETTINGS)
        assert verdict is not None
        return verdict.choice

    assert choice(1.03) == "quick"
    assert choice(1.10) == "good"


def test_what_the_interval_does_not_separate_is_said_and_the_faster_one_is_taken() -> None:
    even = judge([model("one", 1.0, 40, noise=0.3), model("two", 1.01, 10, noise=0.3)], "quality", SETTINGS)
    assert even is not None
    (pair,) = even.comparisons
    assert pair.outcome == "noise"
    assert even.choice == "two"
    assert any("cannot be told apart in quality by 40 examples" in reason for reason in even.reasons)


def test_two_models_of_one_speed_are_told_apart_by_quality() -> None:
    verdict = judge([model("one", 1.0, 10), model("two", 0.9, 10)], "speed", SETTINGS)
    assert verdict is not None
    assert verdict.choice == "two"
    assert any("cannot be told apart in speed" in reason for reason in verdict.reasons)


def test_comparisons_are_corrected_for_how_many_there_are() -> None:
    found = judge([model(name, 1.0 + 0.01 * n, 10, noise=0.1) for n, name in enumerate("abcd")], "quality", SETTINGS)
    assert found is not None
    assert len(found.comparisons) == 6
    assert all(each.p_adjusted >= each.p_value for each in found.comparisons)
    assert max(each.p_adjusted / each.p_value for each in found.comparisons) > 1.5


def test_the_time_is_that_of_the_same_text_whatever_its_tokens() -> None:
    # Twice as many tokens for the same answers, at the same tokens per second: twice the time.
    verdict = judge([model("long", 1.0, 10, tokens=40), model("short", 1.0, 10, tokens=20)], "speed", SETTINGS)
    assert verdict is not None
    assert verdict.choice == "short"
    (ratio,) = [each for each in verdict.ratios if each.candidate == "long"]
    assert ratio.interval.low > 1.1
    assert rates(model("long", 1.0, 10))[1] == pytest.approx(100, rel=0.05)


def test_only_examples_that_every_model_could_be_asked_count() -> None:
    lame = model("lame", 1.0, 10)
    errors = [Likely(each.model, each.id, bytes=50, error="too long") for each in lame.likely[:10]]
    lame = Measured("lame", (*errors, *lame.likely[10:]), lame.samples, 1)
    verdict = judge([GOOD_SLOW, lame], "quality", SETTINGS)
    assert verdict is not None
    assert verdict.scores["good"].count == verdict.scores["lame"].count == 30


def test_nothing_measured_is_no_verdict() -> None:
    assert judge([], "quality", SETTINGS) is None
    assert judge([Measured("a", error="died")], "quality", SETTINGS) is None
