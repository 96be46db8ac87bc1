"""Win rates, scores and figures: by hand, beside scikit-learn, and with the ends they can have."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from tests.evaluate.judge.judges import SETTINGS, people, raters
from vivace.domain import Message
from vivace.evaluate.judge.asking import Verdict
from vivace.evaluate.judge.calibration import calibrate_pairs, calibrate_scores
from vivace.evaluate.judge.figures import Resampling, auc, best_threshold, kappa, sign_test
from vivace.evaluate.judge.page import markdown, page
from vivace.evaluate.judge.results import JudgeReport, family, scored, win_rate
from vivace.evaluate.judge.verdicts import (
    AnswerScore,
    Pair,
    PairVerdict,
    answer_scores,
    pair_questions,
    pair_verdicts,
    unreadable,
)

HOW = Resampling(resamples=300)


def pair_of(one: str, other: str) -> Pair:
    return Pair("p", (Message("user", "q"),), one, other)


def reply(letter: str | None) -> Verdict:
    return Verdict("k", {} if letter is None else {each: float(each == letter) for each in "ABC"}, said="?")


@pytest.mark.parametrize(
    ("one", "two", "verdict", "flipped"),
    [
        ("A", "B", "first", False),
        ("B", "A", "second", False),
        ("A", "A", "tie", True),
        ("B", "B", "tie", True),
        ("A", "C", "tie", False),
        ("C", "C", "tie", False),
        (None, "A", "unreadable", False),
    ],
)
def test_a_win_needs_both_orders_and_a_flip_is_a_tie(one, two, verdict, flipped) -> None:
    (found,) = pair_verdicts([pair_of("x", "y")], {"p:0": reply(one), "p:1": reply(two)})
    assert (found.verdict, found.flipped) == (verdict, flipped)


def test_the_same_answers_are_a_tie_without_a_question() -> None:
    pairs = [pair_of("same", " same ")]
    assert pair_questions(pairs, SETTINGS) == []
    assert pair_verdicts(pairs, {})[0].verdict == "tie"


def test_a_score_is_the_expectation_and_an_unread_one_is_none() -> None:
    found = {
        "a:helpfulness": Verdict("k", {"1": 0.5, "5": 0.5}),
        "b:helpfulness": Verdict("k", said="no idea"),
    }
    scores = answer_scores(["a", "b"], found, SETTINGS)
    assert [each.mean for each in scores] == [3.0, None]
    assert unreadable(scores) == (1, ["no idea"])


def test_a_win_rate_counts_ties_as_half_and_leaves_unreadable_ones_out() -> None:
    sides = ["first"] * 6 + ["second"] * 2 + ["tie"] * 2 + ["unreadable"]
    verdicts = [PairVerdict(str(n), side) for n, side in enumerate(sides)]
    found = win_rate(("a", "b"), verdicts, [str(n) for n in range(11)], HOW)
    assert found.rate.value == pytest.approx(0.7)
    assert (found.wins, found.ties, found.losses, found.unreadable) == (6, 2, 2, 1)
    assert found.rate.interval.low < 0.7 < found.rate.interval.high
    assert win_rate(("a", "b"), verdicts[-1:], ["x"], HOW) is None


def test_ten_wins_of_ten_are_no_certainty() -> None:
    found = win_rate(("a", "b"), [PairVerdict(str(n), "first") for n in range(10)], list("abcdefghij"), HOW)
    assert found.rate.value == 1
    assert 0.6 < found.rate.interval.low < 0.8  # Wilson: 0.722


def test_the_sign_test_is_the_exact_one_within_its_resamples() -> None:
    from scipy.stats import binomtest

    wins, losses = [1.0] * 14 + [0.0] * 5, [0.0] * 14 + [1.0] * 5
    p_value = sign_test(wins, losses, [str(n) for n in range(19)], Resampling(resamples=20_000))
    assert p_value == pytest.approx(binomtest(14, 19).pvalue, abs=0.01)


def test_several_candidates_are_corrected_for() -> None:
    verdicts = [PairVerdict(str(n), "first" if n < 14 else "second") for n in range(19)]
    rates = [win_rate((name, "base"), verdicts, [str(n) for n in range(19)], HOW) for name in "ab"]
    assert all(each.p_adjusted == pytest.approx(2 * each.p_value) for each in family(rates))


def test_scores_are_compared_on_the_questions_that_both_were_scored_on() -> None:
    ours = [AnswerScore(str(n), {"all": 4.0 + n % 2}) for n in range(10)] + [AnswerScore("x", {"all": None})]
    theirs = [AnswerScore(str(n), {"all": 2.0 + n % 3}) for n in range(11)]
    found = scored(("a", "b"), ours, theirs, HOW)
    assert found.scores[0].value == pytest.approx(4.5)
    assert found.comparisons[0].count == 10
    assert found.comparisons[0].outcome == "better"
    assert found.unreadable == 1


def test_kappa_and_auc_are_those_of_scikit_learn() -> None:
    from sklearn.metrics import cohen_kappa_score, roc_auc_score

    rng = np.random.default_rng(0)
    human = rng.integers(0, 3, 200)
    judge = np.where(rng.random(200) < 0.5, human, rng.integers(0, 3, 200))
    table = np.zeros((3, 3))
    np.add.at(table, (human, judge), 1)
    groups = [str(n) for n in range(200)]
    found = kappa(table, groups, list(zip(human, judge, strict=True)), HOW)
    assert found.value == pytest.approx(cohen_kappa_score(human, judge))
    assert found.interval.low < found.value < found.interval.high
    good, scores = human > 0, np.round(judge + rng.normal(0, 1, 200), 1)  # rounded: with ties
    ranked = auc(list(scores), list(good), groups, [""] * 200, HOW)
    assert ranked.value == pytest.approx(roc_auc_score(good, scores))


def test_within_strata_only_their_own_pairs_count() -> None:
    found = auc([2.0, 1.0, 9.0, 8.0], [True, False, True, False], list("abcd"), ["x", "x", "y", "y"], HOW)
    assert found.value == 1
    assert auc([1.0, 2.0], [True, False], list("ab"), ["x", "y"], HOW) is None


def test_the_threshold_has_the_best_kappa() -> None:
    assert 2 < best_threshold(np.array([1.0, 2.0, 3.0, 4.0]), np.array([False, False, True, True])) < 3


def report() -> JudgeReport:
    humans = people(30)
    verdicts = [PairVerdict(each.id, each.preferred, (each.preferred,) * 2, 1, 2) for each in humans]
    ratings = raters(40)
    scores = [AnswerScore(each.id, {"all": 4.0 if each.good else 2.0}, said="") for each in ratings]
    rates = family([win_rate(("<b>", "base"), verdicts, [each.id for each in humans], HOW)])
    return JudgeReport(
        "big|one", "m", "e", "text", calibrate_pairs(humans, verdicts, HOW), calibrate_scores(ratings, scores, HOW),
        {"the answer is empty": 3}, ("file",), win_rates=rates,
    )  # fmt: skip


def test_the_report_tells_figures_and_no_markup_of_others_gets_through() -> None:
    found = report()
    text, html = markdown(found), page(found)
    assert "Cohen's kappa" in text
    assert "the answer is empty (3)" in text
    assert "&lt;b>" in text
    assert "<b>" not in html
    assert html.count("<svg") == 3
    assert "<script" not in html
    for drawing in re.findall(r"<svg.*?</svg>", html):
        ElementTree.fromstring(drawing)
