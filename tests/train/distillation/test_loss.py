"""The divergences equal TRL's, their gradients autograd's, and only learned tokens count."""

import pytest
import torch
import torch.nn.functional as F

from vivace.train.distillation.lesson import Divergence
from vivace.train.distillation.loss import Spoken, distill_loss

KINDS = [
    Divergence("forward_kl"),
    Divergence("forward_kl", temperature=2.0),
    Divergence("reverse_kl", temperature=0.7),
    Divergence("jsd", 0.1),
    Divergence("jsd", 0.5, 2.0),
    Divergence("jsd", 0.9),
]


def material(places: int = 40, width: int = 500, teacher_width: int = 500) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=source)

    return {
        "hidden": normal(places, 16),
        "weight": normal(width, 16) / 2,
        "teacher_hidden": normal(places, 24),
        "teacher_weight": normal(teacher_width, 24) / 2,
        "labels": torch.randint(0, min(width, teacher_width), (places,), generator=source),
        "shares": torch.rand(places, generator=source) + 0.5,
    }


def trl_divergence(student: torch.Tensor, teacher: torch.Tensor, divergence: Divergence) -> torch.Tensor:
    """TRL 1.16.0's generalized JSD, per place; beta 0 and 1 are its names for forward and reverse KL."""
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    beta = {"forward_kl": 0, "reverse_kl": 1, "jsd": divergence.beta}[divergence.kind]
    return GKDTrainer.generalized_jsd_loss(
        student, teacher, beta=beta, temperature=divergence.temperature, reduction="none"
    ).sum(dim=-1)


@pytest.mark.parametrize("divergence", KINDS, ids=str)
def test_divergence_and_gradients_are_those_of_trl(divergence: Divergence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivace.train.distillation.loss.CPU_LOGITS", 16 * 500)  # several slices
    given = material()
    hidden, weight = given["hidden"].requires_grad_(), given["weight"].requires_grad_()
    student, teacher = Spoken(hidden, weight), Spoken(given["teacher_hidden"], given["teacher_weight"])
    found = distill_loss(student, teacher, given["labels"], divergence, alpha=0.3, shares=given["shares"])
    ours = torch.autograd.grad(found.loss, (hidden, weight))

    logits, theirs = hidden @ weight.T, given["teacher_hidden"] @ given["teacher_weight"].T
    apart = trl_divergence(logits, theirs, divergence)
    losses = F.cross_entropy(logits, given["labels"], reduction="none")
    expected = ((0.7 * losses + 0.3 * divergence.temperature**2 * apart) * given["shares"]).sum()
    torch.testing.assert_close(found.loss, expected, rtol=1e-5, atol=1e-4)
    assert found.divergence == pytest.approx(float(apart.sum()), rel=1e-4)
    assert found.cross_entropy == pytest.approx(float(losses.sum()), rel=1e-5)
    assert found.right == int((logits.argmax(-1) == given["labels"]).sum())
    assert found.agreed == int((logits.argmax(-1) == theirs.argmax(-1)).sum())
    for mine, yours in zip(ours, torch.autograd.grad(expected, (hidden, weight)), strict=True):
        torch.testing.assert_close(mine, yours, rtol=1e-4, atol=1e-4)


def test_label_smoothing_is_torchs() -> None:
    given = material()
    hidden = given["hidden"].requires_grad_()
    student, teacher = Spoken(hidden, given["weight"]), Spoken(given["teacher_hidden"], given["teacher_weight"])
    found = distill_loss(student, teacher, given["labels"], Divergence(), alpha=0.0, smoothing=0.2)
    expected = F.cross_entropy(hidden @ given["weight"].T, given["labels"], reduction="sum", label_smoothing=0.2)
    torch.testing.assert_close(found.loss, expected, rtol=1e-5, atol=1e-4)
    ours, theirs = torch.autograd.grad(found.loss, hidden), torch.autograd.grad(expected, hidden)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_answers_of_the_student_itself_are_no_target() -> None:
    given = material()
    student, teacher = (
        Spoken(given["hidden"], given["weight"]),
        Spoken(given["teacher_hidden"], given["teacher_weight"]),
    )
    found = distill_loss(student, teacher, given["labels"], Divergence(), alpha=0.4, sampled=True)
    assert float(found.loss) == pytest.approx(0.4 * found.divergence, rel=1e-5)


def test_a_wider_head_is_compared_on_the_tokens_both_know() -> None:
    for width, teacher_width in ((520, 500), (500, 520)):
        given = material(width=width, teacher_width=teacher_width)
        hidden = given["hidden"].requires_grad_()
        student, teacher = Spoken(hidden, given["weight"]), Spoken(given["teacher_hidden"], given["teacher_weight"])
        found = distill_loss(student, teacher, given["labels"], Divergence(), alpha=0.5)
        logits, theirs = hidden @ given["weight"].T, given["teacher_hidden"] @ given["teacher_weight"].T
        apart = trl_divergence(logits[:, :500], theirs[:, :500], Divergence())
        expected = (0.5 * F.cross_entropy(logits, given["labels"], reduction="none") + 0.5 * apart).sum()
        torch.testing.assert_close(found.loss, expected, rtol=1e-5, atol=1e-4)
        ours, trls = torch.autograd.grad(found.loss, hidden), torch.autograd.grad(expected, hidden)
        torch.testing.assert_close(ours, trls, rtol=1e-4, atol=1e-4)


def test_a_student_that_is_its_teacher_has_nothing_to_learn_from_it() -> None:
    given = material()
    hidden = given["hidden"].requires_grad_()
    same = Spoken(given["hidden"].detach(), given["weight"])
    for divergence in KINDS:
        found = distill_loss(Spoken(hidden, given["weight"]), same, given["labels"], divergence, alpha=1.0)
        assert abs(found.divergence) < 1e-4
        assert found.agreed == len(given["labels"])
        assert float(torch.autograd.grad(found.loss, hidden)[0].abs().max()) < 1e-5
