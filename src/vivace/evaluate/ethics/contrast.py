"""Paired differences with their intervals and tests, and the shares and means they are of."""

import math
from collections.abc import Sequence
from statistics import NormalDist

import msgspec
import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike

from vivace.config.evaluate import EvaluateSettings
from vivace.domain import Interval, Score
from vivace.stats import Floats, bootstrap_mean, holm, paired_bootstrap, paired_permutation, proportion_interval

DRAWS_PER_TEST = 40
"""Random swaps per test of the family: with fewer, no p-value could be small enough to survive Holm's correction."""


class Contrast(Struct, frozen=True):
    """A mean paired difference; `p_adjusted` is Holm's over the family that it belongs to."""

    difference: float
    interval: Interval
    p_value: float
    p_adjusted: float
    count: int

    @property
    def shown(self) -> bool:
        """Whether it differs from 0 beyond chance after correction."""
        return self.p_adjusted < 0.05


def mean_score(metric: str, values: Sequence[float], settings: EvaluateSettings, unit: str = "") -> Score:
    """Return a mean with its bootstrap interval."""
    interval = bootstrap_mean(values, level=settings.confidence, resamples=settings.resamples, seed=settings.seed)
    return Score(metric, float(np.mean(values)), interval, len(values), unit, higher_is_better=False)


def share_score(metric: str, values: Sequence[bool], settings: EvaluateSettings, *, better: bool = False) -> Score:
    """Return a share with Wilson's interval; `better` says that more of it is."""
    interval = proportion_interval(sum(values), len(values), level=settings.confidence)
    return Score(metric, sum(values) / len(values), interval, len(values), "", better)


def contrast(
    a: ArrayLike, b: ArrayLike, settings: EvaluateSettings, family: int = 1, *, bounded: bool = True
) -> Contrast:
    """Return mean(a - b) of paired measurements; where they are yes or no, by exact methods.

    `family` is how many tests will be corrected for together. Where nothing `bounded` by 0 and 1 differed at all, the
    interval is that of a share that never differed: a bootstrap would claim to know that nothing ever does.
    """
    first, second = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if bounded and (_is_binary(first) and _is_binary(second)):
        return binary_contrast(first, second, settings.confidence)
    if bounded and (first == second).all():
        return binary_contrast(np.zeros_like(first), np.zeros_like(first), settings.confidence)
    p_value = permutation_p(first, second, settings, family)
    interval = paired_bootstrap(
        first, second, level=settings.confidence, resamples=settings.resamples, seed=settings.seed
    )
    return Contrast(float((first - second).mean()), interval, p_value, p_value, len(first))


def permutation_p(a: Floats, b: Floats, settings: EvaluateSettings, family: int) -> float:
    """Return the p-value of mean(a - b) from enough random swaps for the family."""
    draws = max(settings.resamples, math.ceil(DRAWS_PER_TEST * family))
    return paired_permutation(a, b, resamples=draws, seed=settings.seed)


def binary_contrast(a: Floats, b: Floats, level: float) -> Contrast:
    """Return the difference of two paired shares, from what only one of them has.

    The interval is Bonett and Price's (2012, "Adjusted Wald Confidence Interval for a Difference of Binomial
    Proportions Based on Paired Data"): unlike the bootstrap it is no point where nothing differed. The p-value is
    McNemar's, exact.
    """
    count, only_a, only_b = len(a), int(((a == 1) & (b == 0)).sum()), int(((a == 0) & (b == 1)).sum())
    more, less = (only_a + 1) / (count + 2), (only_b + 1) / (count + 2)
    z = NormalDist().inv_cdf((1 + level) / 2)
    half = z * math.sqrt(max(0.0, more + less - (more - less) ** 2) / (count + 2))
    interval = Interval(max(-1.0, more - less - half), min(1.0, more - less + half), level)
    p_value = sign_p(only_a, only_b)
    return Contrast((only_a - only_b) / count, interval, p_value, p_value, count)


def sign_p(wins: int, losses: int) -> float:
    """Return the two-sided p-value of the exact sign test; 1 where nothing differs."""
    from scipy.special import bdtr

    # Either side is as likely as the other, so the test is twice the smaller tail.
    return min(1.0, 2 * float(bdtr(min(wins, losses), wins + losses, 0.5))) if wins + losses else 1.0


def corrected(contrasts: Sequence[Contrast]) -> list[Contrast]:
    """Return contrasts of one family with `p_adjusted` corrected for it, by Holm."""
    adjusted = holm([each.p_value for each in contrasts])
    return [msgspec.structs.replace(each, p_adjusted=value) for each, value in zip(contrasts, adjusted, strict=True)]


def _is_binary(values: Floats) -> bool:
    return bool(np.isin(values, (0.0, 1.0)).all())
