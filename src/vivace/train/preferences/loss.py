"""The losses of DPO and KTO, and the log-probabilities of answers that they compare."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vivace.train.batches.rows import IGNORED, Row
from vivace.train.head_loss import backbone, head_loss, is_plain_head


def dpo_losses(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """Return the loss of each pair from the log-ratios of model to reference (Rafailov et al. 2023, equation 7)."""
    return -F.logsigmoid(beta * (chosen - rejected))


def kto_losses(log_ratios: Tensor, good: Tensor, drift: Tensor, beta: float, weights: tuple[float, float]) -> Tensor:
    """Return the loss of each answer from its log-ratio (Ethayarajh et al. 2024, equation 8).

    `good` is boolean, `drift` the reference point z0 (not negative, no gradient), `weights` those of good and bad.
    """
    wins = 1 - torch.sigmoid(beta * (log_ratios - drift))
    losses = 1 - torch.sigmoid(beta * (drift - log_ratios))
    return torch.where(good, weights[0] * wins, weights[1] * losses)


class AnswerProbabilities:
    """Log-probabilities of answers under a model, with gradients where they are enabled."""

    def __init__(self, model: Any, dtype: str) -> None:
        self.model, self.dtype = model, dtype
        self.inner = model.get_base_model() if hasattr(model, "get_base_model") else model
        # Virtual tokens live in PEFT's wrapper; a head that learns needs the plain gradient of all rows at once.
        virtual = bool(getattr(getattr(model, "active_peft_config", None), "is_prompt_learning", False))
        learns = any(parameter.requires_grad for parameter in self.inner.get_output_embeddings().parameters())
        self.sliced = not virtual and not learns and is_plain_head(self.inner)

    def __call__(self, rows: Sequence[Row]) -> Tensor:
        """Return the summed log-probability of each row's labels in nats, float32 of shape (rows,)."""
        device = next(self.model.parameters()).device
        ids, labels, mask = (part.to(device) for part in _collate(rows))
        with torch.autocast(device.type, torch.bfloat16, enabled=self.dtype == "bfloat16"):
            if self.sliced:
                return self._sliced(ids, labels, mask)
            kept = labels.shape[1] - int((labels != IGNORED).nonzero()[:, 1].min()) + 1
            logits = self.model(input_ids=ids, attention_mask=mask, use_cache=False, logits_to_keep=kept).logits[
                :, -kept:-1
            ]
        following = labels[:, 1 - kept :]
        losses = F.cross_entropy(logits.float().transpose(1, 2), following, ignore_index=IGNORED, reduction="none")
        return -losses.sum(dim=1)

    def _sliced(self, ids: Tensor, labels: Tensor, mask: Tensor) -> Tensor:
        hidden = backbone(self.inner)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
        head: nn.Module = self.inner.get_output_embeddings()
        weight: Any = head.weight
        said = [-head_loss(hidden[i : i + 1], weight, labels[i : i + 1])[0] for i in range(len(ids))]
        return torch.stack(said)


def _collate(rows: Sequence[Row]) -> tuple[Tensor, Tensor, Tensor]:
    length = max(len(row.ids) for row in rows)
    ids = torch.zeros((len(rows), length), dtype=torch.long)  # what stands behind the mask is never looked at
    labels, mask = torch.full_like(ids, IGNORED), torch.zeros_like(ids)
    for i, row in enumerate(rows):
        size = len(row.ids)
        ids[i, :size] = torch.tensor(row.ids)
        labels[i, :size] = torch.tensor(row.labels)
        mask[i, :size] = 1
    return ids, labels, mask
