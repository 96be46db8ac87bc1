"""Worlds in which the truth is known: planted bias is found, and where there is none, none is claimed.

Each world is a family of tests as a report has them. Sizes are those that `docs/evaluate.md` states.
"""

import numpy as np
import pytest

from vivace.config.evaluate import EvaluateSettings
from vivace.evaluate.ethics.figures import pair_findings, swap_findings
from vivace.evaluate.ethics.files import Pair
from vivace.evaluate.ethics.signals import METRICS
from vivace.evaluate.ethics.swaps import Version

WORLDS = 1000
SETTINGS = EvaluateSettings(resamples=1000)
EXAMPLES = 100
GAP = 0.10
NOISE = 0.2
"""Standard deviation of the difference in token F1 between two answers to swapped questions."""
PAIRS = 1500
KINDS = 9
LEAN = 0.57
"""Share of pairs whose stereotype is likelier, planted."""


def versions(examples: int, groups: tuple[str, ...]) -> list[Version]:
    return [Version(str(number), "gender", group, (), "") for number in range(examples) for group in groups]


def world(asked: list[Version], rng: np.random.Generator, gap: float) -> dict[str, dict[str, float]]:
    """Return metrics of answers like a chatbot's: F1 skewed, refusals and toxic words rare, all noisy per answer."""
    level = {each.example: rng.beta(2, 3) for each in asked}
    shift = {"b": gap}
    noise = NOISE / 2**0.5  # of each answer, so that the difference of two has NOISE
    drawn = rng.normal(0, noise, len(asked))
    binary = rng.random((2, len(asked)))
    mood, words = rng.normal(0.5, 0.15, len(asked)), rng.poisson(30, len(asked))
    return {
        each.id: dict(
            zip(
                METRICS,
                (
                    level[each.example] + drawn[at] - shift.get(each.group, 0.0),
                    float(binary[0, at] < 0.05),
                    float(binary[1, at] < 0.02),
                    mood[at],
                    float(words[at]),
                ),
                strict=True,
            )
        )
        for at, each in enumerate(asked)
    }


def share_of_worlds(tell) -> float:
    return sum(tell(np.random.default_rng(seed)) for seed in range(WORLDS)) / WORLDS


@pytest.mark.slow
def test_a_gap_of_a_tenth_in_f1_is_found_in_nine_worlds_of_ten_with_a_hundred_conversations() -> None:
    asked = versions(EXAMPLES, ("a", "b", "c"))

    def found(rng: np.random.Generator) -> bool:
        told = swap_findings(asked, [world(asked, rng, GAP)], SETTINGS)
        return any(each.shown and each.metric == "token_f1" and each.group == "gender: b - a" for each in told)

    assert share_of_worlds(found) >= 0.9


@pytest.mark.slow
def test_without_a_gap_at_most_one_world_in_twenty_is_called_biased() -> None:
    asked = versions(EXAMPLES, ("a", "b", "c"))

    def called(rng: np.random.Generator) -> bool:
        return any(each.shown for each in swap_findings(asked, [world(asked, rng, 0.0)], SETTINGS))

    assert share_of_worlds(called) <= 0.05


def leaning(rng: np.random.Generator, lean: float) -> bool:
    pairs = [Pair(str(number), "", "", f"kind {number % KINDS}") for number in range(PAIRS)]
    likelier = rng.random(PAIRS) < lean
    side = {pair.id: bool(likelier[number]) for number, pair in enumerate(pairs)}
    return any(each.shown for each in pair_findings(pairs, [side], SETTINGS, "whole sentence"))


@pytest.mark.slow
def test_a_lean_to_stereotypes_is_found_in_nine_worlds_of_ten() -> None:
    assert share_of_worlds(lambda rng: leaning(rng, LEAN)) >= 0.9


@pytest.mark.slow
def test_without_a_lean_at_most_one_world_in_twenty_is_called_biased() -> None:
    assert share_of_worlds(lambda rng: leaning(rng, 0.5)) <= 0.05


@pytest.mark.slow
def test_one_type_that_leans_is_found_by_itself() -> None:
    """A hundred pairs of one type at 0.72, the others even."""
    pairs = [Pair(str(number), "", "", f"kind {number % KINDS}") for number in range(9 * 100)]

    def found(rng: np.random.Generator) -> bool:
        lean = np.where(np.arange(len(pairs)) % KINDS == 0, 0.72, 0.5)
        likelier = rng.random(len(pairs)) < lean
        side = {pair.id: bool(likelier[number]) for number, pair in enumerate(pairs)}
        told = pair_findings(pairs, [side], SETTINGS, "whole sentence")
        return any(each.shown and each.group == "kind 0" for each in told)

    assert share_of_worlds(found) >= 0.9
