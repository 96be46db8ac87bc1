"""Simulated judges with known faults: each must be found out, and the good ones must be believed."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from tests.evaluate.judge.judges import (
    SETTINGS,
    OpinionatedEngine,
    chance,
    coin,
    first,
    longer,
    people,
    perfect,
    raters,
    seventy,
    shown_answer,
    taste,
)
from vivace.domain import SilentProgress
from vivace.evaluate.judge.asking import ask_all
from vivace.evaluate.judge.calibration import Calibration, calibrate_pairs, calibrate_scores
from vivace.evaluate.judge.figures import Resampling
from vivace.evaluate.judge.opinions import Compared
from vivace.evaluate.judge.verdicts import (
    AnswerScore,
    Pair,
    PairVerdict,
    answer_scores,
    pair_questions,
    pair_verdicts,
    score_questions,
)

HOW = Resampling(resamples=400)


def judged_pairs(opinion, humans: list[Compared], folder: Path) -> list[PairVerdict]:
    pairs = [Pair(each.id, each.prompt, each.first, each.second, each.group) for each in humans]
    asked = ask_all(
        OpinionatedEngine(opinion),
        pair_questions(pairs, SETTINGS),
        folder / "verdicts.jsonl",
        SilentProgress(),
        identity="fake",
        concurrency=64,
    )
    return pair_verdicts(pairs, asyncio.run(asked))


def measured(opinion, humans: list[Compared], folder: Path) -> Calibration:
    return calibrate_pairs(humans, judged_pairs(opinion, humans, folder), HOW)


def test_a_perfect_judge_is_believed(tmp_path: Path) -> None:
    found = measured(perfect, people(60), tmp_path)
    assert found.trusted
    assert found.agreement.value == found.kappa.value == 1
    assert 0.9 < found.agreement.interval.low < 1  # 60 pairs are no proof of perfection
    assert 0.8 < found.kappa.interval.low < 1
    assert found.notes == ()
    assert found.flips.value == found.ties.value == 0
    assert found.position.value == pytest.approx(0.5)


def test_a_coin_abstains_and_says_how_many_ratings_a_better_judge_would_need(tmp_path: Path) -> None:
    found = measured(coin, people(150), tmp_path)
    assert not found.trusted
    assert abs(found.agreement.value - 0.5) < 0.12
    assert found.sentence.startswith("The judge abstains")
    assert "would need about" in found.sentence


def test_a_judge_that_always_says_the_first_only_ties_and_its_position_bias_is_told(tmp_path: Path) -> None:
    found = measured(first, people(80), tmp_path)
    assert not found.trusted
    assert found.flips.value == found.ties.value == 1
    assert found.agreement.value == 0.5
    assert found.position.value == 1
    assert any("shown first: 100%" in note for note in found.notes)


def test_a_judge_that_prefers_length_abstains_and_its_bias_is_told(tmp_path: Path) -> None:
    found = measured(longer, people(200), tmp_path)
    assert not found.trusted
    assert found.length.interval.low > 0.2
    assert "It prefers long answers more than people do." in found.notes


def test_a_judge_with_seventy_per_cent_agreement_is_believed_on_enough_pairs_and_not_on_few(tmp_path: Path) -> None:
    many, few = measured(seventy, people(200), tmp_path), measured(seventy, people(22, seed=9), tmp_path)
    assert many.trusted
    assert many.agreement.interval.low < 0.7 < many.agreement.interval.high
    assert not few.trusted


def test_with_under_twenty_conversations_no_judge_is_believed(tmp_path: Path) -> None:
    found = measured(perfect, people(19), tmp_path)
    assert not found.trusted
    assert "at least 20 conversations" in found.sentence


def test_rows_of_one_conversation_are_no_independent_evidence() -> None:
    humans = people(20)
    verdicts = [PairVerdict(each.id, each.preferred if place % 3 else "tie", ()) for place, each in enumerate(humans)]
    once = calibrate_pairs(humans, verdicts, HOW)
    often = calibrate_pairs(humans * 10, verdicts * 10, HOW)
    assert often.count == 200
    assert often.groups == 20
    widths = [each.agreement.interval.high - each.agreement.interval.low for each in (once, often)]
    assert widths[1] == pytest.approx(widths[0], rel=0.15)


def test_verdicts_that_cannot_be_read_are_counted_and_not_scored() -> None:
    humans = people(40)
    verdicts = [PairVerdict(each.id, each.preferred, (each.preferred,) * 2, 1, 2) for each in humans]
    verdicts[:10] = [PairVerdict(each.id, "unreadable", said="I think") for each in humans[:10]]
    found = calibrate_pairs(humans, verdicts, HOW)
    assert (found.count, found.unreadable, found.said) == (30, 10, ("I think",))
    assert found.agreement.value == 1


def simulated(right: float, count: int, seed: int) -> Calibration:
    """A judge that is right with a probability, without asking anything."""
    humans, rng = people(count, seed), np.random.default_rng(seed)
    other = {"first": "second", "second": "first"}
    verdicts = [
        PairVerdict(each.id, each.preferred if rng.random() < right else other[each.preferred], (), 1, 2)
        for each in humans
    ]
    return calibrate_pairs(humans, verdicts, Resampling(resamples=200, seed=seed))


@pytest.mark.slow
def test_false_alarms_and_power_are_what_was_promised() -> None:
    runs = 200
    coins = sum(simulated(0.5, 60, seed).trusted for seed in range(runs))
    seventies = sum(simulated(0.7, 60, seed).trusted for seed in range(runs))
    print(f"trusted of {runs}: coins {coins}, judges with 70 % agreement {seventies}")
    assert coins / runs <= 0.06  # one tail of a 95 % interval: 0.025 expected
    assert seventies / runs >= 0.8  # by the normal approximation 0.88 at 60 pairs


def judged_scores(opinion, humans, folder: Path) -> list[AnswerScore]:
    questions = score_questions([(each.id, each.prompt, each.answer) for each in humans], SETTINGS)
    asked = ask_all(
        OpinionatedEngine(opinion), questions, folder / "v.jsonl", SilentProgress(), identity="fake", concurrency=64
    )
    return answer_scores([each.id for each in humans], asyncio.run(asked), SETTINGS)


def test_a_judge_whose_scores_follow_people_is_believed(tmp_path: Path) -> None:
    humans = raters(80)

    def opinion(text: str) -> dict[str, float]:
        return {"4": 0.6, "5": 0.4} if taste(shown_answer(text)) else {"1": 0.3, "2": 0.7}

    found = calibrate_scores(humans, judged_scores(opinion, humans, tmp_path), HOW)
    assert found.trusted
    assert found.auc.value == found.kappa.value == 1
    assert found.confusion[0][1] == found.confusion[1][0] == 0
    assert [each.good.value for each in found.bins] == [0, 1]
    assert found.length.value == pytest.approx(0)


def test_scores_by_chance_abstain(tmp_path: Path) -> None:
    humans = raters(150)
    found = calibrate_scores(
        humans, judged_scores(lambda text: {"1": chance(text), "5": 1 - chance(text)}, humans, tmp_path), HOW
    )
    assert not found.trusted
    assert found.auc.interval.low < 0.5 < found.auc.interval.high


def test_scores_by_length_abstain_and_the_bias_is_told(tmp_path: Path) -> None:
    humans = raters(150)

    def opinion(text: str) -> dict[str, float]:
        share = min(1.0, len(shown_answer(text).split()) / 40)
        return {"1": 1 - share, "5": share}

    found = calibrate_scores(humans, judged_scores(opinion, humans, tmp_path), HOW)
    assert not found.trusted
    assert found.length.interval.low > 0.5
    assert "It prefers long answers more than people do." in found.notes


def test_a_judge_that_only_recognizes_the_topic_is_found_out() -> None:
    from msgspec.structs import replace

    rng = np.random.default_rng(0)
    humans = [
        replace(each, stratum=("coffee" if (each.good if rng.random() < 0.9 else not each.good) else "movies"))
        for each in raters(200)
    ]
    scores = [AnswerScore(each.id, {"all": 5.0 if each.stratum == "coffee" else 1.0}) for each in humans]
    found = calibrate_scores(humans, scores, HOW)
    blind = calibrate_scores([replace(each, stratum="") for each in humans], scores, HOW)
    assert blind.trusted
    assert not found.trusted
    assert found.auc.value == 0.5
    assert any("topics" in note for note in found.notes)


def test_the_threshold_is_chosen_on_other_ratings_so_that_noise_does_not_agree() -> None:
    alarms, kappas = 0, []
    for seed in range(40):
        humans, rng = raters(60, seed), np.random.default_rng(seed)
        scores = [AnswerScore(each.id, {"all": float(rng.uniform(1, 5))}) for each in humans]
        found = calibrate_scores(humans, scores, Resampling(resamples=200, seed=seed))
        alarms += found.trusted
        kappas.append(found.kappa.value)
    assert alarms <= 3
    assert abs(float(np.mean(kappas))) < 0.06
