"""What an encoder learns of liked and disliked answers: pairs by Bradley and Terry, ratings by logistic regression."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from vivace.models.encoders.tokens import Encoded, EncoderTokenizer
from vivace.train.batches.rows import Row
from vivace.train.preferences.reward_figures import agreement
from vivace.train.preferences.rows import Pair, Preferences, Rated
from vivace.train.preferences.weights import LengthBias, even_pairs, even_ratings

VALIDATION_BATCH = 32


class RewardLesson:
    """Pairs, and ratings of answers that are in no pair; both on one scale, as a rating is a comparison with reward 0.

    Bradley and Terry 1952; Ouyang et al. 2022, https://arxiv.org/abs/2203.02155, equation 1.
    """

    metric = "agreement"

    def __init__(
        self, tokenizer: EncoderTokenizer, train: Preferences, held: Preferences, limit: float, on: str
    ) -> None:
        self.tokenizer, self.held, self.on = tokenizer, held, on
        self.answers = train.answers
        # The longer answer must not win by its length: see `weights`.
        self.items: list[Pair | Rated] = []
        self.biases: dict[str, LengthBias] = {}
        """What length has to do with being liked, in pairs and in ratings."""
        if train.pairs:
            pairs, self.biases["pairs"] = even_pairs(train, limit)
            self.items += pairs
        if train.ratings:
            ratings, self.biases["ratings"] = even_ratings(train, limit)
            self.items += ratings

    def __len__(self) -> int:
        return len(self.items)

    @property
    def lengths(self) -> list[int]:
        """Tokens of each item."""
        return [sum(len(self.answers[place].ids) for place in _places(item)) for item in self.items]

    def loss(self, model: Any, rows: list[int]) -> Tensor:
        """Return the mean loss of the items."""
        items = [self.items[row] for row in rows]
        places = list(dict.fromkeys(place for item in items for place in _places(item)))
        at = {place: number for number, place in enumerate(places)}
        rewards = self._rewards(model, [self.answers[place] for place in places])
        losses = []
        for item in items:
            if isinstance(item, Pair):
                margin = rewards[at[item.chosen]] - rewards[at[item.rejected]]
            else:
                margin = rewards[at[item.answer]] * (1 if item.good else -1)
            losses.append(-item.share * F.logsigmoid(margin))
        return torch.stack(losses).mean()

    def validate(self, model: Any) -> tuple[float, float]:
        """Return the mean loss and the agreement with people on held-out answers."""
        rewards = self.rewards(model, self.held.answers)
        return item_loss(self.held, rewards), agreement(self.held, rewards)

    def rewards(self, model: Any, rows: Sequence[Row]) -> NDArray[np.float64]:
        """Return the reward of each row."""
        order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
        found = np.zeros(len(rows))
        with torch.no_grad():
            for start in range(0, len(order), VALIDATION_BATCH):
                places = order[start : start + VALIDATION_BATCH]
                found[places] = self._rewards(model, [rows[place] for place in places]).double().cpu().numpy()
        return found

    def _rewards(self, model: Any, rows: Sequence[Row]) -> Tensor:
        padded = self.tokenizer.pad([encoded(row) for row in rows])
        inputs = {name: torch.from_numpy(values).to(self.on) for name, values in padded.items()}
        rewards: Tensor = model(**inputs).logits[:, 0]
        return rewards


def encoded(row: Row) -> Encoded:
    """Return an answer's row as an encoder reads it: the conversation, then the answer."""
    second = next(place for place, label in enumerate(row.labels) if label >= 0)
    return Encoded(row.ids, (0,) * second + (1,) * (len(row.ids) - second), second)


def item_loss(held: Preferences, rewards: NDArray[np.float64]) -> float:
    """Return the mean loss of held-out pairs and ratings."""
    margins = [rewards[pair.chosen] - rewards[pair.rejected] for pair in held.pairs]
    margins += [rewards[rated.answer] * (1 if rated.good else -1) for rated in held.ratings]
    return float(np.logaddexp(0, -np.array(margins)).mean())


def without_paired(preferences: Preferences) -> Preferences:
    """Return the preferences without the ratings of answers that are in a pair: the pair says all they do."""
    paired = {place for pair in preferences.pairs for place in (pair.chosen, pair.rejected)}
    ratings = tuple(rated for rated in preferences.ratings if rated.answer not in paired)
    return msgspec.structs.replace(preferences, ratings=ratings)


def _places(item: Pair | Rated) -> tuple[int, ...]:
    return (item.chosen, item.rejected) if isinstance(item, Pair) else (item.answer,)
