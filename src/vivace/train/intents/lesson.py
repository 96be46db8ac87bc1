"""What an encoder learns of intents: weighted, smoothed cross entropy, and doubt where no intent fits."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vivace.config.intent import IntentSettings
from vivace.models.encoders.tokens import Encoded, EncoderTokenizer
from vivace.train.intents.figures import macro_f1
from vivace.train.intents.labels import OUT

VALIDATION_BATCH = 64


class IntentLesson:
    """Messages to learn from and messages to validate on, encoded."""

    metric = "macro_f1"

    def __init__(
        self,
        tokenizer: EncoderTokenizer,
        train: tuple[Sequence[Encoded], Sequence[int]],
        held: tuple[Sequence[Encoded], Sequence[int]],
        count: int,
        settings: IntentSettings,
        on: str,
    ) -> None:
        self.tokenizer, self.train, self.held, self.count = tokenizer, train, held, count
        self.settings, self.on = settings, on
        self.weights = torch.tensor(
            class_weights(train[1], count, balanced=settings.class_weights == "balanced"), device=on
        )

    def __len__(self) -> int:
        return len(self.train[0])

    def loss(self, model: Any, rows: list[int]) -> Tensor:
        """Return the mean loss of the rows.

        A message out of scope is taught no intent but the even distribution over all (outlier exposure, Hendrycks et
        al. 2019, https://arxiv.org/abs/1812.04606).
        """
        logits = self._logits(model, [self.train[0][row] for row in rows])
        labels = torch.tensor([self.train[1][row] for row in rows], device=self.on)
        return intent_losses(
            logits, labels, self.weights, self.settings.label_smoothing_factor, self.settings.out_of_scope_weight
        ).mean()

    def validate(self, model: Any) -> tuple[float, float]:
        """Return loss and macro F1 on the held-out messages in scope."""
        rows, labels = self.held
        order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
        loss, guessed = 0.0, np.zeros(len(rows), np.int64)
        for start in range(0, len(order), VALIDATION_BATCH):
            places = order[start : start + VALIDATION_BATCH]
            logits = self._logits(model, [rows[place] for place in places])
            told = torch.tensor([labels[place] for place in places], device=self.on)
            loss += float(F.cross_entropy(logits, told, reduction="sum"))
            guessed[places] = logits.argmax(dim=1).cpu().numpy()
        return loss / len(rows), macro_f1(labels, guessed, self.count)

    def _logits(self, model: Any, rows: Sequence[Encoded]) -> Tensor:
        padded = self.tokenizer.pad(rows)
        logits: Tensor = model(**{name: torch.from_numpy(values).to(self.on) for name, values in padded.items()}).logits
        return logits


def intent_losses(logits: Tensor, labels: Tensor, weights: Tensor, smoothing: float, out_weight: float) -> Tensor:
    """Return the loss of each row; a label of -1 is out of scope."""
    within = labels != OUT
    losses = F.cross_entropy(logits, labels.clamp(min=0), label_smoothing=smoothing, reduction="none")
    doubt = -F.log_softmax(logits, dim=1).mean(dim=1)
    return torch.where(within, weights[labels.clamp(min=0)] * losses, out_weight * doubt)


def class_weights(labels: Sequence[int], count: int, *, balanced: bool) -> list[float]:
    """Return what a message of each intent counts: 1, or so much that all intents count alike and the mean is 1."""
    if not balanced:
        return [1.0] * count
    counts = np.bincount([label for label in labels if label != OUT], minlength=count)
    return [float(counts.sum() / (count * max(1, number))) for number in counts]
