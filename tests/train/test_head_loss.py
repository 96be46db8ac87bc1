"""The loss on selected tokens is the plain loss."""

from pathlib import Path

import pytest

from vivace.models import load_causal_lm
from vivace.train.batches.rows import IGNORED


@pytest.mark.parametrize("frozen_head", [True, False])
def test_loss_and_gradients_equal_those_of_transformers(tiny_model: Path, frozen_head: bool) -> None:
    import torch

    from vivace.train.head_loss import backbone, head_loss, is_plain_head

    model = load_causal_lm(tiny_model)
    model.get_output_embeddings().weight.requires_grad_(not frozen_head)
    assert is_plain_head(model)
    source = torch.Generator().manual_seed(0)
    ids = torch.randint(0, 500, (3, 40), generator=source)
    mask = torch.ones_like(ids)
    mask[1, 30:] = 0
    labels = ids.clone()
    labels[:, :17] = labels[1, 30:] = IGNORED
    plain = model(input_ids=ids, attention_mask=mask, labels=labels, use_cache=False)
    plain.loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    hidden = backbone(model)(input_ids=ids, attention_mask=mask, use_cache=False).last_hidden_state
    total, right = head_loss(hidden, model.get_output_embeddings().weight, labels)
    learned = (labels[:, 1:] != IGNORED).sum()
    (total / learned).backward()

    torch.testing.assert_close(total / learned, plain.loss)
    guesses = plain.logits[:, :-1].argmax(-1)
    assert int(right) == int(((guesses == labels[:, 1:]) & (labels[:, 1:] != IGNORED)).sum())
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_the_loss_does_not_depend_on_how_the_positions_are_sliced(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    from vivace.train import head_loss as module

    hidden, weight = torch.randn(2, 90, 8), torch.randn(50, 8)
    labels = torch.randint(0, 50, (2, 90))
    whole = module.head_loss(hidden, weight, labels)
    monkeypatch.setattr(module, "CPU_LOGITS", 1)
    sliced = module.head_loss(hidden, weight, labels)
    torch.testing.assert_close(sliced, whole)


def test_a_row_that_counts_twice_is_the_same_as_the_row_twice() -> None:
    import torch

    from vivace.train.head_loss import head_loss

    source = torch.Generator().manual_seed(1)
    hidden = torch.randn(2, 7, 8, generator=source)
    labels = torch.randint(0, 20, (2, 7), generator=source)
    weight = torch.randn(20, 8, generator=source)

    def gradients(rows: list[int], shares: list[float] | None) -> tuple[torch.Tensor, torch.Tensor]:
        head = weight.clone().requires_grad_()
        given = None if shares is None else torch.tensor(shares)
        total, _right = head_loss(hidden[rows], head, labels[rows], given)
        total.backward()
        assert head.grad is not None
        return total.detach(), head.grad

    torch.testing.assert_close(gradients([0, 1], [2.0, 1.0]), gradients([0, 0, 1], None))
    torch.testing.assert_close(gradients([0, 1], [1.0, 1.0]), gradients([0, 1], None))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_smoothed_labels_give_the_loss_and_gradients_of_torch(
    smoothing: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    from vivace.train import head_loss as module

    monkeypatch.setattr(module, "CPU_LOGITS", 16 * 30)  # slices of 16 positions
    source = torch.Generator().manual_seed(2)
    labels = torch.randint(0, 30, (3, 25), generator=source)
    labels[0, :9] = labels[2, 20:] = IGNORED
    ours = [torch.randn(3, 25, 8, generator=source), torch.randn(30, 8, generator=source)]
    theirs = [tensor.clone().requires_grad_() for tensor in ours]
    ours = [tensor.requires_grad_() for tensor in ours]

    total, right = module.head_loss(ours[0], ours[1], labels, smoothing=smoothing)
    total.backward()
    logits = theirs[0][:, :-1] @ theirs[1].T
    plain = torch.nn.CrossEntropyLoss(label_smoothing=smoothing, reduction="sum", ignore_index=IGNORED)
    expected = plain(logits.flatten(0, 1), labels[:, 1:].flatten())
    expected.backward()

    torch.testing.assert_close(total, expected)
    assert int(right) == int((logits.argmax(-1) == labels[:, 1:]).sum())
    for found, wanted in zip(ours, theirs, strict=True):
        torch.testing.assert_close(found.grad, wanted.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_the_reference_loss_is_that_of_the_head(tiny_model: Path, smoothing: float) -> None:
    import torch
    from trl.trainer.utils import add_fused_lm_head

    from vivace.train.head_loss import backbone, head_loss, reference_loss

    model = load_causal_lm(tiny_model)
    add_fused_lm_head(model, outputs=("log_probs", "is_top1"))
    ids = torch.randint(0, 500, (2, 12), generator=torch.Generator().manual_seed(3))
    labels = ids.clone()
    labels[0, :5] = IGNORED
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    for shares in (None, torch.tensor([2.0, 0.5]), torch.rand(2, 12)):
        hidden = backbone(model)(**given, use_cache=False).last_hidden_state
        ours = head_loss(hidden, model.get_output_embeddings().weight, labels, shares, smoothing)
        torch.testing.assert_close(reference_loss(model, given, labels, shares, smoothing), ours, rtol=1e-4, atol=1e-4)


def test_nothing_to_learn_is_a_loss_of_zero() -> None:
    import torch

    from vivace.train.head_loss import head_loss

    hidden = torch.randn(1, 5, 8, requires_grad=True)
    total, right = head_loss(hidden, torch.randn(20, 8), torch.full((1, 5), IGNORED))
    total.backward()
    assert (float(total.detach()), int(right), float(hidden.grad.abs().sum())) == (0.0, 0, 0.0)


def test_a_head_that_does_more_than_multiply_is_noticed(tiny_model: Path) -> None:
    from vivace.train.head_loss import is_plain_head

    class Scaled(type(load_causal_lm(tiny_model))):  # type: ignore[misc]
        def forward(self, *args: object, **named: object) -> object:
            out = super().forward(*args, **named)
            out.logits = out.logits / 2
            return out

    model = load_causal_lm(tiny_model)
    model.__class__ = Scaled
    assert not is_plain_head(model)
