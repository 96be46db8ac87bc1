"""How far student and teacher are apart on the learned tokens, with the gradient, a slice of the tokens at a time."""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from vivace.train.distillation.lesson import Divergence
from vivace.train.head_loss import CPU_LOGITS, CUDA_LOGITS


class Spoken(NamedTuple):
    """What a model is about to say at N places: last hidden states (N, H) with the head's weight (V, H).

    Without a weight, `hidden` are the logits themselves.
    """

    hidden: Tensor
    weight: Tensor | None


class Apart(NamedTuple):
    """Sums over tokens: the loss with its gradient, its parts, and how often the student's likeliest token was the
    label or the teacher's likeliest."""

    loss: Tensor
    cross_entropy: float
    divergence: float
    right: int
    agreed: int


def distill_loss(
    student: Spoken,
    teacher: Spoken,
    labels: Tensor,
    divergence: Divergence,
    *,
    alpha: float,
    shares: Tensor | None = None,
    smoothing: float = 0.0,
    sampled: bool = False,
) -> Apart:
    """Return (1 - alpha) x cross entropy + alpha x temperature² x divergence, summed over tokens.

    `labels` and `shares` are (N,). Answers that the student `sampled` itself are no target: only the divergence counts.
    Where the heads differ in width (padded vocabularies), distributions are over the tokens both know. Hinton et al.
    2015, https://arxiv.org/abs/1503.02531; the divergences are those of Agarwal et al. 2024,
    https://arxiv.org/abs/2306.13649.
    """
    apply: Any = _DistillLoss.apply
    weights = (0.0 if sampled else 1 - alpha, alpha)
    with torch.autocast(student.hidden.device.type, enabled=False):
        loss, parts = apply(
            student.hidden,
            student.weight,
            teacher.hidden,
            teacher.weight,
            labels,
            shares,
            (divergence, weights, smoothing, torch.is_grad_enabled()),
        )
    cross_entropy, apart, right, agreed = parts.tolist()
    return Apart(loss, cross_entropy, apart, int(right), int(agreed))


def divergence_of(student: Tensor, teacher: Tensor, divergence: Divergence) -> tuple[Tensor, Tensor]:
    """Return the divergence of each row of log-probabilities (N, V) as (N, 1), and its gradient by student logits.

    The gradient is by the logits after they were divided by the temperature. KL(teacher || student) is forward,
    KL(student || teacher) reverse; jsd is beta KL(teacher || m) + (1 - beta) KL(student || m) with the mixture
    m = beta teacher + (1 - beta) student.
    """
    p = student.exp()
    if divergence.kind == "forward_kl":
        q = teacher.exp()
        return (q * (teacher - student)).sum(dim=-1, keepdim=True), p - q
    if divergence.kind == "reverse_kl":
        gap = student - teacher
        apart = (p * gap).sum(dim=-1, keepdim=True)
        return apart, p * (gap - apart)
    beta = divergence.beta
    mixture = torch.logaddexp(student + math.log1p(-beta), teacher + math.log(beta))
    from_teacher = (teacher.exp() * (teacher - mixture)).sum(dim=-1, keepdim=True)
    gap = student - mixture
    from_student = (p * gap).sum(dim=-1, keepdim=True)
    return beta * from_teacher + (1 - beta) * from_student, (1 - beta) * p * (gap - from_student)


class _DistillLoss(torch.autograd.Function):
    """The sum of both losses; as in `head_loss`, the gradient is taken while a slice's logits are at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor | None,
        teacher_hidden: Tensor,
        teacher_weight: Tensor | None,
        labels: Tensor,
        shares: Tensor | None,
        how: tuple[Divergence, tuple[float, float], float, bool],
    ) -> tuple[Tensor, Tensor]:
        """Return the loss, and cross entropy, divergence, right and agreed guesses in one tensor."""
        divergence, weights, smoothing, learning = how
        exact = torch.float64 if hidden.device.type == "cpu" else torch.float32
        total = torch.zeros((), dtype=exact, device=hidden.device)
        parts = torch.zeros(4, dtype=torch.float64 if exact == torch.float64 else exact, device=hidden.device)
        d_hidden = torch.empty_like(hidden) if learning and ctx.needs_input_grad[0] else None
        d_weight = torch.zeros_like(weight) if learning and weight is not None and ctx.needs_input_grad[1] else None
        head = None if weight is None else weight.to(hidden.dtype)
        teacher_head = None if teacher_weight is None else teacher_weight.to(teacher_hidden.dtype)
        width = hidden.shape[1] if weight is None else weight.shape[0]
        size = max(16, (CPU_LOGITS if hidden.device.type == "cpu" else CUDA_LOGITS) // width // 2)
        for start in range(0, len(labels), size):
            here = slice(start, start + size)
            share = None if shares is None else shares[here, None]
            own, theirs = _logits(hidden[here], head), _logits(teacher_hidden[here], teacher_head)
            loss, found, error = _slice(own, theirs, labels[here, None], divergence, weights, smoothing)
            total += (loss if share is None else loss * share).sum()
            parts += found.to(parts.dtype)
            if d_hidden is None and d_weight is None:
                continue
            error = (error if share is None else error * share).to(hidden.dtype)
            if d_hidden is not None:
                d_hidden[here] = error if head is None else error @ head
            if d_weight is not None:
                d_weight += error.T @ hidden[here]
        ctx.save_for_backward(d_hidden, d_weight)
        ctx.mark_non_differentiable(parts)
        return total.float(), parts

    @staticmethod
    def backward(ctx: Any, d_total: Tensor, _d_parts: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradients that the forward pass has left."""
        d_hidden, d_weight = ctx.saved_tensors
        return (
            None if d_hidden is None else d_hidden * d_total.to(d_hidden.dtype),
            None if d_weight is None else d_weight * d_total.to(d_weight.dtype),
            *(None,) * 5,
        )


def _logits(hidden: Tensor, head: Tensor | None) -> Tensor:
    return (hidden if head is None else hidden @ head.T).float()


def _slice(
    own: Tensor, theirs: Tensor, gold: Tensor, divergence: Divergence, weights: tuple[float, float], smoothing: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the losses (n, 1), the four sums and the gradient by the student's logits (n, V) of some places."""
    known, heat = min(own.shape[1], theirs.shape[1]), divergence.temperature
    guess = own.argmax(dim=-1, keepdim=True)
    said = own.log_softmax(dim=-1)
    losses = -said.gather(1, gold)
    if smoothing:
        losses = (1 - smoothing) * losses - smoothing * said.mean(dim=-1, keepdim=True)
    plain = heat == 1.0 and known == own.shape[1]
    soft = said if plain else (own[:, :known] / heat).log_softmax(dim=-1)
    apart, slope = divergence_of(soft, (theirs[:, :known] / heat).log_softmax(dim=-1), divergence)
    found = torch.stack(
        [losses.sum(), apart.sum(), (guess == gold).sum(), (guess == theirs.argmax(dim=-1, keepdim=True)).sum()]
    )
    error = torch.zeros_like(own)
    if weights[0]:
        error = said.exp()
        error.scatter_add_(1, gold, torch.full_like(losses, smoothing - 1.0))
        if smoothing:
            error -= smoothing / own.shape[1]
        error *= weights[0]
    error[:, :known] += weights[1] * heat * slope
    return weights[0] * losses + weights[1] * heat**2 * apart, found, error
