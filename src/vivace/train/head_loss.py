"""The loss on the tokens that are learned, without logits for the others."""

from typing import Any

import torch
from torch import Tensor, nn

from vivace.train.batches.rows import IGNORED

CPU_LOGITS = 1 << 23
CUDA_LOGITS = 1 << 28


class _HeadLoss(torch.autograd.Function):
    """Summed cross entropy of `hidden @ weight.T`, a slice of the positions at a time.

    The gradient is taken in the same pass, while a slice's logits are at hand: nothing of the size positions x
    vocabulary is ever held, and nothing is computed twice.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        labels: Tensor,
        shares: Tensor | None,
        learning: bool,
        smoothing: float,
    ) -> tuple[Tensor, Tensor]:
        """Return the summed loss and how many labels were the likeliest token; shapes (N, H), (V, H), (N,), (N,)."""
        wants_hidden = learning and ctx.needs_input_grad[0]
        wants_weight = learning and ctx.needs_input_grad[1]
        weight_now = weight.to(hidden.dtype)
        total = hidden.new_zeros((), dtype=torch.float64 if hidden.device.type == "cpu" else torch.float32)
        right = torch.zeros((), dtype=torch.long, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if wants_hidden else None
        d_weight = torch.zeros_like(weight) if wants_weight else None
        size = max(16, (CPU_LOGITS if hidden.device.type == "cpu" else CUDA_LOGITS) // weight.shape[0])
        for start in range(0, len(labels), size):
            h, gold = hidden[start : start + size], labels[start : start + size, None]
            logits = (h @ weight_now.T).float()
            top, guess = logits.max(dim=-1, keepdim=True)
            right += (guess == gold).sum()
            logits -= top
            said = _blend(logits.gather(1, gold), logits.mean(dim=-1, keepdim=True) if smoothing else None, smoothing)
            scale = logits.exp_().sum(dim=-1, keepdim=True)
            share = None if shares is None else shares[start : start + size, None]
            losses = scale.log() - said
            total += (losses if share is None else losses * share).sum()
            if wants_hidden or wants_weight:
                logits /= scale
                logits.scatter_add_(1, gold, torch.full_like(scale, smoothing - 1.0))
                if smoothing:
                    logits -= smoothing / logits.shape[1]
                error = (logits if share is None else logits * share).to(hidden.dtype)
                if d_hidden is not None:
                    d_hidden[start : start + size] = error @ weight_now
                if d_weight is not None:
                    d_weight += error.T @ h
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.mark_non_differentiable(right)
        return total.float(), right

    @staticmethod
    def backward(ctx: Any, d_total: Tensor, _d_right: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that the forward pass has left."""
        d_hidden, d_weight = ctx.saved_tensors
        return (
            None if d_hidden is None else d_hidden * d_total.to(d_hidden.dtype),
            None if d_weight is None else d_weight * d_total.to(d_weight.dtype),
            None,
            None,
            None,
            None,
        )


def _blend(said: Tensor, mean: Tensor | None, smoothing: float) -> Tensor:
    """Return the logit that the smoothed label expects: `smoothing` of its probability lies on all tokens evenly."""
    return said if mean is None else (1 - smoothing) * said + smoothing * mean


def head_loss(
    hidden: Tensor, weight: Tensor, labels: Tensor, shares: Tensor | None = None, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the summed cross entropy of the next tokens and how many were guessed, for rows of hidden states.

    `hidden` is (B, T, H), `labels` (B, T) with -100 where nothing is learned; position t predicts label t + 1.
    `shares` (B,) or (B, T) is how much each row or label counts. `smoothing` is torch's `label_smoothing`.
    """
    following = labels[:, 1:]
    learned = following != IGNORED
    apply: Any = _HeadLoss.apply
    with torch.autocast(hidden.device.type, enabled=False):
        spread = None if shares is None else _per_label(shares, following)[learned]
        total, right = apply(
            hidden[:, :-1][learned], weight, following[learned], spread, torch.is_grad_enabled(), smoothing
        )
    return total, right


def reference_loss(
    model: Any, given: dict[str, Tensor], labels: Tensor, shares: Tensor | None, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return what `head_loss` does for a model whose head does more than multiply; TRL's loss unless smoothed."""
    following = labels[:, 1:]
    if smoothing:
        logits = model(**given, use_cache=False).logits[:, :-1].float()
        losses = nn.functional.cross_entropy(
            logits.transpose(1, 2), following, ignore_index=IGNORED, reduction="none", label_smoothing=smoothing
        )
        right = ((logits.argmax(dim=-1) == following) & (following != IGNORED)).sum()
    else:
        outputs = model(**given, labels=labels, use_cache=False, fused_lm_head=True)
        losses, right = -outputs.log_probs, outputs.is_top1.sum()
    return (losses if shares is None else losses * _per_label(shares, following)).sum(), right


def _per_label(shares: Tensor, following: Tensor) -> Tensor:
    return shares[:, None].expand_as(following) if shares.dim() == 1 else shares[:, 1:]


def is_plain_head(model: nn.Module) -> bool:
    """Tell by trying whether the model's logits are its last hidden states times its head's weight, and no more.

    Some families cap or scale their logits or add a bias; for them the reference loss is used.
    """
    head = model.get_output_embeddings()  # type: ignore[operator]
    if not isinstance(head, nn.Linear) or head.bias is not None:
        return False
    ids = torch.arange(1, 9, device=head.weight.device)[None] % head.weight.shape[0]
    with torch.no_grad():
        plain = backbone(model)(input_ids=ids, use_cache=False).last_hidden_state @ head.weight.T
        full = model(input_ids=ids, use_cache=False).logits
    return plain.shape == full.shape and bool(torch.allclose(plain.float(), full.float(), rtol=1e-3, atol=1e-3))


def backbone(model: nn.Module) -> nn.Module:
    """Return the part of a causal language model below its head."""
    found: nn.Module = model.base_model  # type: ignore[assignment]
    return found
