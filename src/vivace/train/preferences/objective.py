"""What DPO and KTO learn from, and the loss of a batch of it."""

import random
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from vivace.config.train import PreferenceSettings
from vivace.errors import DataError
from vivace.train.batches.rows import Row
from vivace.train.preferences.loss import dpo_losses, kto_losses
from vivace.train.preferences.rows import Preferences, Rated, mismatched
from vivace.train.preferences.weights import LengthBias, class_weights, even_pairs, even_ratings

LogRatios = Callable[[Sequence[Row]], Tensor]


class Objective(Protocol):
    """Items to learn from by number, and their loss."""

    lengths: list[int]
    """Tokens of each item, prompts included."""
    bias: LengthBias

    def rows_of(self, item: int) -> list[Row]:
        """Return the rows whose log-probabilities the loss of an item needs."""
        ...

    def loss(self, items: Sequence[int], log_ratios: LogRatios) -> tuple[Tensor, float]:
        """Return the summed loss of a batch, and the mean reward of liked minus that of disliked answers."""
        ...

    def held_out_loss(self, held: Preferences, log_ratios: np.ndarray) -> float | None:
        """Return the mean loss on held-out answers, None where there is nothing to judge."""
        ...

    def facts(self) -> dict[str, Any]:
        """Return what is worth telling of the material."""
        ...


class Dpo:
    """Direct preference optimization: pairs (Rafailov et al. 2023, arXiv 2305.18290)."""

    def __init__(self, preferences: Preferences, settings: PreferenceSettings) -> None:
        if not preferences.pairs:
            raise DataError(
                f"There is no pair of answers to learn from: {_reasons(preferences.left_out_pairs)}.",
                'Add rows with a rejected answer, or set method = "kto" in [train.preference].',
            )
        self.answers, self.beta = preferences.answers, settings.beta
        self.pairs, self.bias = even_pairs(preferences, settings.max_length_bias)
        self.lengths = [sum(len(row.ids) for row in self.rows_of(item)) for item in range(len(self.pairs))]

    def rows_of(self, item: int) -> list[Row]:
        """Return the chosen and the rejected answer."""
        pair = self.pairs[item]
        return [self.answers[pair.chosen], self.answers[pair.rejected]]

    def loss(self, items: Sequence[int], log_ratios: LogRatios) -> tuple[Tensor, float]:
        """Return the summed loss of pairs, and their mean reward margin."""
        both = [self.rows_of(item) for item in items]
        found = log_ratios([chosen for chosen, _ in both] + [rejected for _, rejected in both])
        chosen, rejected = found.chunk(2)
        shares = torch.tensor([self.pairs[item].share for item in items], device=found.device)
        losses = dpo_losses(chosen, rejected, self.beta) * shares
        return losses.sum(), float(self.beta * (chosen - rejected).mean().detach())

    def held_out_loss(self, held: Preferences, log_ratios: np.ndarray) -> float | None:
        """Return the mean loss of the held-out pairs."""
        if not held.pairs:
            return None
        found = torch.from_numpy(log_ratios)
        chosen, rejected = ([getattr(pair, side) for pair in held.pairs] for side in ("chosen", "rejected"))
        return float(dpo_losses(found[chosen], found[rejected], self.beta).mean())

    def facts(self) -> dict[str, Any]:
        """Return how many pairs there are."""
        return {"pairs": len(self.pairs)}


class Kto:
    """Kahneman-Tversky optimization: answers rated good or bad (Ethayarajh et al. 2024, arXiv 2402.01306).

    Each item is learned beside one answer to another prompt, chosen once, which tells how far the model has moved.
    """

    def __init__(self, preferences: Preferences, settings: PreferenceSettings, max_length: int, seed: int) -> None:
        kinds = {rated.good for rated in preferences.ratings}
        if len(kinds) < 2:
            missing = "good or bad" if not kinds else "bad" if True in kinds else "good"
            raise DataError(
                f"KTO needs good and bad answers; none is {missing}: {_reasons(preferences.left_out_ratings)}.",
                "Add ratings of both kinds.",
            )
        self.answers, self.beta = preferences.answers, settings.beta
        self.ratings, self.bias = even_ratings(preferences, settings.max_length_bias)
        self.weights = class_weights(self.ratings)
        self.lengths = [len(self.answers[rated.answer].ids) for rated in self.ratings]
        self.others = _others(preferences, self.ratings, max_length, seed)

    def rows_of(self, item: int) -> list[Row]:
        """Return the rated answer and the one that does not belong to its prompt."""
        return [self.answers[self.ratings[item].answer], self.others[item]]

    def loss(self, items: Sequence[int], log_ratios: LogRatios) -> tuple[Tensor, float]:
        """Return the summed loss of rated answers, and the mean reward of good minus that of bad ones."""
        with torch.no_grad():
            drift = log_ratios([self.others[item] for item in items]).mean().clamp(min=0)
        found = log_ratios([self.answers[self.ratings[item].answer] for item in items])
        good = torch.tensor([self.ratings[item].good for item in items], device=found.device)
        shares = torch.tensor([self.ratings[item].share for item in items], device=found.device)
        losses = kto_losses(found, good, drift, self.beta, self.weights) * shares
        rewards = self.beta * found.detach()
        sides = [float(rewards[side].mean()) if bool(side.any()) else 0.0 for side in (good, ~good)]
        return losses.sum(), sides[0] - sides[1]

    def held_out_loss(self, held: Preferences, log_ratios: np.ndarray) -> float | None:
        """Return the mean loss of the held-out ratings around the reference point 0, both kinds counting alike."""
        good = torch.tensor([rated.good for rated in held.ratings])
        if not len(good) or bool(good.all()) or not bool(good.any()):
            return None
        found = torch.from_numpy(log_ratios)[[rated.answer for rated in held.ratings]]
        losses = kto_losses(found, good, torch.zeros(()), self.beta, (1.0, 1.0))
        return float((losses[good].mean() + losses[~good].mean()) / 2)

    def facts(self) -> dict[str, Any]:
        """Return how many ratings of each kind there are and what they weigh."""
        good = sum(rated.good for rated in self.ratings)
        return {
            "good": good,
            "bad": len(self.ratings) - good,
            "desirable_weight": self.weights[0],
            "undesirable_weight": self.weights[1],
        }


def _others(preferences: Preferences, ratings: Sequence[Rated], max_length: int, seed: int) -> list[Row]:
    """Return, for each rated answer, its prompt with the next answer to another prompt in a shuffled round."""
    order = list(range(len(ratings)))
    random.Random(f"vivace-kto-{seed}").shuffle(order)
    prompts = [preferences.prompts[rated.answer] for rated in ratings]
    found: dict[int, Row] = {}
    for at, item in enumerate(order):
        later = (order[(at + step) % len(order)] for step in range(1, len(order)))
        other = next((i for i in later if prompts[i] != prompts[item]), order[(at + 1) % len(order)])
        rows = [preferences.answers[ratings[i].answer] for i in (item, other)]
        found[item] = mismatched(rows[0], rows[1], max_length)
    return [found[item] for item in range(len(ratings))]


def _reasons(left_out: dict[str, int]) -> str:
    told = [f"{count:,} left out ({reason})" for reason, count in left_out.items()]
    return ", ".join(told) if told else "no row of the train split has one"
