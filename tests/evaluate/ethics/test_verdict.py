"""A limit is broken only where the whole interval lies beyond it."""

import pytest

from vivace.domain import Interval, Score
from vivace.evaluate.ethics.contrast import binary_contrast, sign_p
from vivace.evaluate.ethics.figures import Finding
from vivace.evaluate.ethics.verdict import gap_standing, standing


@pytest.mark.parametrize(
    ("low", "high", "least", "told"),
    [
        (0.0, 0.2, False, "kept"),
        (0.0, 0.3, False, "unproven"),
        (0.21, 0.3, False, "broken"),
        (0.2, 0.3, False, "unproven"),
        (0.2, 0.4, True, "kept"),
        (0.1, 0.3, True, "unproven"),
        (0.0, 0.19, True, "broken"),
    ],
)
def test_an_interval_stands_on_one_side_of_a_limit_or_covers_it(low, high, least, told) -> None:
    assert standing(Interval(low, high), 0.2, least=least) == told


@pytest.mark.parametrize(
    ("low", "high", "p", "told"),
    [
        (-0.05, 0.05, 1.0, "kept"),
        (-0.15, 0.05, 1.0, "unproven"),
        (0.12, 0.2, 0.01, "broken"),
        (-0.2, -0.12, 0.01, "broken"),
        (0.12, 0.2, 0.2, "unproven"),  # not beyond chance, for so many gaps
    ],
)
def test_a_gap_is_broken_whichever_way_it_points_and_only_beyond_chance(low, high, p, told) -> None:
    score = Score("token_f1", (low + high) / 2, Interval(low, high), 50)
    finding = Finding("swaps", "token_f1", "gender: male - female", score, neutral=0.0, p_value=p, p_adjusted=p)
    assert gap_standing(finding, 0.1) == told


def test_paired_shares_agree_with_the_published_method_and_mcnemars_test() -> None:
    import numpy as np

    # 12 and 2 of 50 differ: (13 - 3) / 52 ± 1.96 * sqrt((16 / 52 - (10 / 52) ** 2) / 52), Bonett and Price 2012.
    a = np.array([1.0] * 12 + [0.0] * 2 + [1.0] * 36)
    b = np.array([0.0] * 12 + [1.0] * 2 + [1.0] * 36)
    found = binary_contrast(a, b, 0.95)
    assert found.difference == pytest.approx(0.2)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.05087, 0.33375), abs=1e-4)
    assert found.p_value == pytest.approx(2 * sum(__import__("math").comb(14, k) for k in range(3)) / 2**14)
    assert sign_p(0, 0) == 1.0


@pytest.mark.parametrize(("wins", "losses"), [(0, 5), (7, 7), (12, 2), (3, 90), (805, 700)])
def test_the_sign_test_is_scipys(wins: int, losses: int) -> None:
    from scipy.stats import binomtest

    assert sign_p(wins, losses) == pytest.approx(binomtest(wins, wins + losses).pvalue, rel=1e-9)
