"""The figures are scikit-learn's, and each says what its name says."""

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from vivace.train.intents.figures import compared, confused, in_scope_figures, macro_f1, per_intent, selective_figures
from vivace.train.intents.lesson import class_weights, intent_losses


def guesses(count: int = 300) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    truth = rng.integers(0, 6, count)
    return truth, np.where(rng.uniform(size=count) < 0.7, truth, rng.integers(0, 6, count))


def test_macro_f1_is_scikit_learns() -> None:
    truth, guessed = guesses()
    assert macro_f1(truth, guessed, 6) == pytest.approx(f1_score(truth, guessed, average="macro"))


def test_intents_that_do_not_occur_do_not_count() -> None:
    assert macro_f1([0, 0, 1], [0, 0, 1], 9) == 1.0


def test_intervals_hold_the_value_and_a_real_gain_is_seen() -> None:
    truth, guessed = guesses()
    told = in_scope_figures(truth, guessed, 6, seed=0)
    for name in ("accuracy", "macro_f1"):
        assert told[name]["low"] < told[name]["value"] < told[name]["high"]
    worse = np.where(np.arange(300) % 3 == 0, (truth + 1) % 6, guessed)
    assert compared(truth, guessed, worse, 6, seed=0)["macro_f1_gain"]["low"] > 0
    assert compared(truth, guessed, guessed, 6, seed=0)["accuracy_gain"]["value"] == 0


def test_answering_a_message_out_of_scope_costs_precision() -> None:
    truth = np.array([0, 1, 1, -1, -1])
    told = selective_figures(truth, np.array([0, 1, 0, 1, 0]), np.array([0.9, 0.8, 0.3, 0.7, 0.2]), 0.5)
    assert told["precision"]["value"] == pytest.approx(2 / 3)
    assert told["precision_in_scope"]["value"] == 1.0
    assert told["coverage_in_scope"]["value"] == pytest.approx(2 / 3)
    assert told["out_of_scope_recall"]["value"] == 0.5
    assert told["out_of_scope_auc"] == pytest.approx(5 / 6)


def test_the_worst_intent_and_the_most_confused_pair_come_first() -> None:
    truth, guessed = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 1, 0, 1, 2, 2])
    assert per_intent(truth, guessed, ["a", "b", "c"])[-1]["intent"] == "c"
    assert confused(truth, guessed, ["a", "b", "c"]) == [{"intents": ["a", "b"], "messages": 2}]


def test_balanced_intents_count_alike_and_a_message_counts_one_on_average() -> None:
    labels = [0] * 30 + [1] * 6 + [-1] * 5
    weights = class_weights(labels, 2, balanced=True)
    assert 30 * weights[0] == pytest.approx(6 * weights[1])
    assert (30 * weights[0] + 6 * weights[1]) / 36 == pytest.approx(1)
    assert class_weights(labels, 2, balanced=False) == [1, 1]


def test_the_loss_of_a_message_in_scope_is_the_weighted_smoothed_cross_entropy() -> None:
    torch.manual_seed(0)
    logits, labels, weights = torch.randn(5, 4), torch.tensor([0, 1, 2, 3, 0]), torch.tensor([1.0, 2.0, 0.5, 1.5])
    plain = torch.nn.functional.cross_entropy(logits, labels, label_smoothing=0.1, reduction="none")
    torch.testing.assert_close(intent_losses(logits, labels, weights, 0.1, 0.5), weights[labels] * plain)


def test_a_message_out_of_scope_is_taught_to_be_even() -> None:
    logits = torch.zeros(1, 4, requires_grad=True)
    even = intent_losses(logits, torch.tensor([-1]), torch.ones(4), 0.0, 1.0)
    even.sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-6
    sure = intent_losses(torch.tensor([[5.0, 0, 0, 0]]), torch.tensor([-1]), torch.ones(4), 0.0, 1.0)
    assert float(sure) > float(even.detach())
