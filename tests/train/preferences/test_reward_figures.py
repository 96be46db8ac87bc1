"""Figures of rewards, and the loss they are learned with."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from vivace.train.batches.rows import IGNORED, Row
from vivace.train.preferences.reward_figures import (
    agreement,
    calibration_error,
    deciding,
    fit_scale,
    held_out_figures,
    weighted_auc,
)
from vivace.train.preferences.reward_lesson import RewardLesson, without_paired
from vivace.train.preferences.rows import Pair, Preferences, Rated


def row(words: int, token: int = 7) -> Row:
    return Row((2, 5, 3, *[token] * words, 3), (IGNORED,) * 3 + (token,) * words + (3,))


def pairs(lengths: list[tuple[int, int]]) -> Preferences:
    """Pairs of (liked, other) answers with so many words."""
    answers = tuple(row(words) for both in lengths for words in both)
    return Preferences(
        answers=answers,
        prompts=tuple(place // 2 for place in range(len(answers))),
        talks=tuple(place // 2 for place in range(len(answers))),
        pairs=tuple(Pair(2 * place, 2 * place + 1) for place in range(len(lengths))),
    )


def test_the_weighted_area_is_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    values, good, shares = rng.integers(0, 9, 80).astype(float), rng.uniform(size=80) < 0.4, rng.uniform(0.1, 3, 80)
    assert weighted_auc(values, good, shares) == pytest.approx(roc_auc_score(good, values, sample_weight=shares))
    assert weighted_auc(values, np.ones(80, bool), shares) == 0.5


def test_who_scores_by_length_agrees_no_better_than_chance() -> None:
    held = pairs([(9, 3)] * 18 + [(3, 9)] * 2)
    by_length = np.array([answer.learned for answer in held.answers], float)
    figures = held_out_figures(held, by_length, seed=0)
    assert figures["accuracy"]["value"] == 0.9
    assert figures["even_accuracy"]["value"] == pytest.approx(0.5)
    assert figures["shorter_liked_accuracy"]["value"] == 0.0
    assert figures["length_correlation"] == pytest.approx(1)
    assert agreement(held, by_length) == pytest.approx(0.5)
    assert deciding(figures) == ("even_accuracy", figures["even_accuracy"])


def test_conversations_are_drawn_whole() -> None:
    held = pairs([(5, 4), (4, 5)] * 20)
    scores = np.array([1.0, 0.0] * 40)
    scores[40:] = -scores[40:]
    alone = held_out_figures(held, scores, seed=0)["accuracy"]
    together = Preferences(
        answers=held.answers, prompts=held.prompts, talks=tuple(t // 20 for t in range(80)), pairs=held.pairs
    )
    grouped = held_out_figures(together, scores, seed=0)["accuracy"]
    assert alone["value"] == grouped["value"] == 0.5
    assert grouped["high"] - grouped["low"] > alone["high"] - alone["low"]


def test_the_scale_makes_margins_log_odds() -> None:
    rng = np.random.default_rng(2)
    rewards = np.zeros(6000)
    margins = rng.normal(0, 1, 3000)
    flipped = rng.uniform(size=3000) > 1 / (1 + np.exp(-2.0 * margins))  # true log-odds are twice the margin
    rewards[0::2] = np.where(flipped, -margins, margins)
    held = pairs([(5, 5)] * 3000)
    scale, offset = fit_scale(held, rewards)
    assert scale == pytest.approx(2.0, rel=0.1)
    assert offset == pytest.approx(-scale * rewards.mean())
    assert calibration_error(held, scale * rewards) < 0.03 < calibration_error(held, 0.3 * rewards)


def test_ratings_of_paired_answers_are_left_to_the_pair() -> None:
    held = pairs([(5, 4)])
    held = Preferences(
        answers=(*held.answers, row(3)),
        prompts=(0, 0, 1),
        talks=(0, 0, 1),
        pairs=held.pairs,
        ratings=(Rated(0, True), Rated(1, False), Rated(2, True)),
    )
    assert without_paired(held).ratings == (Rated(2, True),)


class _Fixed(torch.nn.Module):
    """An encoder whose reward is the first token of the answer, so that losses can be worked out by hand."""

    def forward(self, input_ids: torch.Tensor, **_rest: torch.Tensor) -> object:
        class Output:
            logits = input_ids[:, 3:4].float()

        return Output()


class _Plain:
    @staticmethod
    def pad(batch: list[object]) -> dict[str, np.ndarray]:
        return {"input_ids": np.array([entry.ids[:4] for entry in batch])}  # type: ignore[attr-defined]


def test_the_loss_of_a_pair_is_bradley_and_terrys_and_that_of_a_rating_logistic() -> None:
    train = Preferences(
        answers=(row(2, 3), row(2, 1), row(2, 2)),
        prompts=(0, 0, 1),
        talks=(0, 0, 1),
        pairs=(Pair(0, 1, 0.5),),
        ratings=(Rated(2, False),),
    )
    lesson = RewardLesson(_Plain(), train, train, 0.5, "cpu")  # type: ignore[arg-type]
    assert len(lesson) == 2
    assert lesson.lengths == [12, 6]
    pair, rating = np.logaddexp(0, -(3 - 1)) * 0.5, np.logaddexp(0, 2)
    assert float(lesson.loss(_Fixed(), [0, 1])) == pytest.approx((pair + rating) / 2, rel=1e-5)
    loss, told = lesson.validate(_Fixed())
    assert loss == pytest.approx((np.logaddexp(0, -2) + np.logaddexp(0, 2)) / 2, rel=1e-5)
    assert told == pytest.approx(0.75)  # the pair is told right, one kind of rating says nothing
