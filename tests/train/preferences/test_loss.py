"""The losses of DPO and KTO and the log-probabilities under them, against TRL 1.16.0 on the same batches."""

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.train.preferences.material import BAD, GOOD, adapter_folder, answer, prompt
from vivace.config.train import TrainSettings
from vivace.models import identify, load_causal_lm
from vivace.train.batches.rows import IGNORED, Row
from vivace.train.preferences.align import open_tuned
from vivace.train.preferences.loss import AnswerProbabilities, dpo_losses, kto_losses

pytestmark = pytest.mark.slow
BETA = 0.3


def plain(model: Any, row: Row) -> torch.Tensor:
    """The log-probability by the book."""
    ids, labels = torch.tensor([row.ids]), torch.tensor(row.labels[1:])
    said = model(input_ids=ids).logits[0, :-1].log_softmax(-1)
    learned = labels != IGNORED
    return said[learned].gather(1, labels[learned][:, None]).sum()


def rows_of(ids: torch.Tensor, attended: torch.Tensor, learned: torch.Tensor) -> list[Row]:
    """TRL's batch as rows without padding."""
    rows = []
    for one, seen, said in zip(ids.tolist(), attended.tolist(), learned.tolist(), strict=True):
        kept = [i for i, mark in enumerate(seen) if mark]
        rows.append(Row(tuple(one[i] for i in kept), tuple(one[i] if said[i] else IGNORED for i in kept)))
    return rows


def disturb(model: Any, scale: float = 0.05) -> None:
    torch.manual_seed(3)
    with torch.no_grad():
        for weight in model.parameters():
            weight += scale * weight.abs().mean() * torch.randn_like(weight)


def gradients(model: Any, loss: torch.Tensor) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: weight.grad.clone() for name, weight in model.named_parameters() if weight.grad is not None}


def trl_trainer(kind: str, tiny_model: Path, folder: Path) -> Any:
    """TRL's own trainer on the tiny model, which is moved away from the reference that the trainer has measured."""
    from datasets import Dataset
    from transformers import AutoTokenizer
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer
    from trl.trainer.kto_config import KTOConfig
    from trl.trainer.kto_trainer import KTOTrainer

    turns = [[{"role": "user", "content": prompt(number).content}] for number in range(4)]
    said = {
        word: [[{"role": "assistant", "content": answer(word, number).content * (1 + number)}] for number in range(4)]
        for word in (GOOD, BAD)
    }
    common = {
        "output_dir": str(folder),
        "beta": BETA,
        "per_device_train_batch_size": 4,
        "precompute_ref_log_probs": True,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "report_to": "none",
        "disable_tqdm": True,
    }
    columns: dict[str, Any]
    if kind == "dpo":
        columns = {"prompt": turns, "chosen": said[GOOD], "rejected": said[BAD]}
        make, config = DPOTrainer, DPOConfig(**common)
    else:
        mixed = [said[GOOD][0], said[BAD][1], said[GOOD][2], said[BAD][3]]
        columns = {"prompt": turns, "completion": mixed, "label": [True, False, True, False]}
        make, config = KTOTrainer, KTOConfig(**common, desirable_weight=1.2, undesirable_weight=0.9)
    trainer = make(
        model=load_causal_lm(tiny_model),
        args=config,
        train_dataset=Dataset.from_dict(columns),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
    )
    trainer.get_train_dataloader()
    trainer.model.train()
    return trainer


def test_dpo_is_trls_dpo_loss_and_gradients(tiny_model: Path, tmp_path: Path) -> None:
    trainer = trl_trainer("dpo", tiny_model, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    disturb(trainer.model)
    theirs = trainer.compute_loss(trainer.model, batch)
    wanted = gradients(trainer.model, theirs)
    say = AnswerProbabilities(trainer.model, "float32")
    rows = rows_of(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    chosen, rejected = say(rows).chunk(2)
    ours = dpo_losses(chosen - batch["ref_chosen_logps"], rejected - batch["ref_rejected_logps"], BETA).mean()
    assert abs(ours.item() - 0.693) > 0.01
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(trainer.model, ours), wanted, rtol=1e-3, atol=1e-5)


def test_kto_is_trls_kto_loss_and_gradients(tiny_model: Path, tmp_path: Path) -> None:
    trainer = trl_trainer("kto", tiny_model, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    disturb(trainer.model, 0.02)
    theirs = trainer.compute_loss(trainer.model, batch)
    wanted = gradients(trainer.model, theirs)
    say = AnswerProbabilities(trainer.model, "float32")
    rows = rows_of(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    others = rows_of(batch["KL_input_ids"], batch["KL_attention_mask"], batch["KL_completion_mask"])
    with torch.no_grad():
        drift = (say(others) - batch["ref_KL_logps"]).mean().clamp(min=0)
    assert drift > 0
    good = torch.as_tensor(batch["label"], dtype=torch.bool)
    ours = kto_losses(say(rows) - batch["ref_logps"], good, drift, BETA, (1.2, 0.9)).mean()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients(trainer.model, ours), wanted, rtol=1e-3, atol=1e-5)


def test_kto_weighs_drift_against_good_and_for_bad_answers() -> None:
    good = torch.tensor([True, False])
    found = [kto_losses(torch.tensor([1.0, 1.0]), good, torch.tensor(z), 1.0, (1.0, 1.0)) for z in (0.0, 2.0)]
    assert found[1][0] > found[0][0]
    assert found[1][1] < found[0][1]


@pytest.mark.parametrize("method", ["lora", "full", "prompt_tuning"])
def test_log_probabilities_are_those_by_the_book_whatever_is_trained(
    method: str, tiny_model: Path, tmp_path: Path
) -> None:
    model: Any = load_causal_lm(tiny_model)
    if method != "full":
        tuned = adapter_folder(tiny_model, tmp_path / "tuned", method)
        model = open_tuned(tuned, identify(tiny_model), TrainSettings(), "float32", "cpu")
    say = AnswerProbabilities(model, "float32")
    assert say.sliced == (method == "lora")
    rows = [Row(tuple(range(5, 5 + n)), (*(IGNORED,) * 4, *range(9, 5 + n))) for n in (9, 14, 11)]
    if method == "prompt_tuning":
        # The model's own answer to each row alone: virtual tokens stand before it, so its last positions count.
        with torch.no_grad():
            wanted = []
            for row in rows:
                logits = model(input_ids=torch.tensor([row.ids])).logits[0, -len(row.ids) : -1].log_softmax(-1)
                wanted.append(sum(logits[i - 1, row.ids[i]] for i in range(4, len(row.ids))))
        torch.testing.assert_close(say(rows).detach(), torch.stack(wanted), rtol=1e-4, atol=1e-4)
        return
    expected = torch.stack([plain(model, row) for row in rows])
    torch.testing.assert_close(say(rows), expected, rtol=1e-4, atol=1e-4)
    mine = gradients(model, say(rows).tanh().sum() + (say(rows) * torch.tensor([1.0, -2.0, 0.5])).sum())
    book = gradients(model, expected.tanh().sum() + (expected * torch.tensor([1.0, -2.0, 0.5])).sum())
    torch.testing.assert_close(mine, book, rtol=1e-3, atol=1e-4)
