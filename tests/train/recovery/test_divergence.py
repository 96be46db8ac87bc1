"""Numbers that are not finite set training back to the last good step, slower, and never reach a model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.train.material import Watcher, run, stop_and_go_on, write_dataset
from vivace.errors import ModelError
from vivace.store.files import folder_digest, read_journal
from vivace.train.recovery.divergence import MAX_ROLLBACKS, slow_down

STEADY: dict[str, Any] = {"lr_scheduler_type": "constant", "warmup_ratio": 0.0}


def test_a_slower_schedule_keeps_its_shape() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizers = [torch.optim.AdamW([weight], lr=rate) for rate in (0.8, 0.2)]
    fast, slow = [torch.optim.lr_scheduler.LambdaLR(one, lambda step: 1 / (1 + step)) for one in optimizers]
    slow_down(optimizers[0], fast, 0.25)
    for _ in range(3):
        assert fast.get_last_lr() == slow.get_last_lr()
        assert optimizers[0].param_groups[0]["lr"] == optimizers[1].param_groups[0]["lr"]
        for optimizer, schedule in zip(optimizers, (fast, slow), strict=True):
            optimizer.step()
            schedule.step()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture
def too_fast(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, int], None]:
    """From a step on, let learning rates above a limit blow up the weights, so that the next products overflow."""

    def limit(rate: float, step: int) -> None:
        plain = torch.optim.AdamW.step

        def take(self: Any, closure: Any = None) -> Any:
            done = plain(self, closure)
            for group in self.param_groups:
                for p in group["params"]:
                    if group["lr"] > rate and int(self.state[p]["step"]) >= step:
                        with torch.no_grad():
                            p.mul_(1e36)
            return done

        monkeypatch.setattr(torch.optim.AdamW, "step", take)

    return limit


def history(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read_journal(folder / "scratch" / "history.jsonl")]


@pytest.mark.slow
def test_training_goes_back_to_the_newest_good_checkpoint_and_on_at_half_the_rate(
    dataset: Path, tiny_model: Path, tmp_path: Path, too_fast: Callable[[float, int], None]
) -> None:
    too_fast(1.5e-2, 12)
    watcher = Watcher()
    facts = run(dataset, tiny_model, tmp_path, progress=watcher, **STEADY)
    assert [text for text in watcher.said if "not finite" in text] == [
        "The numbers of step 13 are not finite: training goes back to the checkpoint of step 8 and on with half the "
        "learning rate, 0.01."
    ]
    assert (facts["rolled_back"], facts["learning_rate"], facts["steps"]) == (1, 1e-2, 32)
    rates = {row["step"]: row["learning_rate"] for row in history(tmp_path)[1:]}
    assert list(rates) == list(range(1, 33))
    assert {rates[step] for step in range(1, 9)} == {2e-2}
    assert {rates[step] for step in range(9, 33)} == {1e-2}
    for path in (tmp_path / "out" / "model").glob("*.safetensors"):
        assert all(np.isfinite(value).all() for value in load_file(str(path)).values())


@pytest.mark.slow
@pytest.mark.parametrize("after", [18, 26])
def test_a_run_that_was_set_back_and_interrupted_ends_with_the_same_bits(
    dataset: Path, tiny_model: Path, tmp_path: Path, too_fast: Callable[[float, int], None], after: int
) -> None:
    """Stopped between the setback and the next checkpoint, it diverges once more; after it, the checkpoint knows."""
    too_fast(1.5e-2, 12)
    run(dataset, tiny_model, tmp_path / "through", **STEADY)
    stop_and_go_on(dataset, tiny_model, tmp_path / "stopped", after=after, **STEADY)
    assert folder_digest(tmp_path / "stopped" / "out")[0] == folder_digest(tmp_path / "through" / "out")[0]


@pytest.mark.slow
def test_numbers_that_break_before_any_checkpoint_lead_back_to_the_start(
    dataset: Path, tiny_model: Path, tmp_path: Path, too_fast: Callable[[float, int], None]
) -> None:
    too_fast(0.8e-2, 3)
    watcher = Watcher()
    facts = run(dataset, tiny_model, tmp_path, progress=watcher, num_train_epochs=2, **STEADY)
    assert (facts["rolled_back"], facts["learning_rate"]) == (2, 5e-3)
    assert [row["step"] for row in history(tmp_path)] == list(range(facts["steps"] + 1))


@pytest.mark.slow
@pytest.mark.parametrize("validation", [0, 2])
def test_after_two_setbacks_it_stops_and_publishes_nothing(
    tiny_model: Path, tmp_path: Path, too_fast: Callable[[float, int], None], validation: int
) -> None:
    # The very last step ruins the weights: no later loss would tell.
    too_fast(1e-9, 8)
    watcher = Watcher()
    data = write_dataset(tmp_path, validation=validation)
    with pytest.raises(ModelError, match="not a finite number") as stopped:
        run(data, tiny_model, tmp_path, progress=watcher, num_train_epochs=2, **STEADY)
    assert "learning_rate in [train], now 0.02" in stopped.value.hint
    assert sum("half the learning rate" in text for text in watcher.said) == MAX_ROLLBACKS
    assert not (tmp_path / "out" / "model").exists()
    for path in (tmp_path / "scratch").glob("checkpoint-*/weights.safetensors"):
        assert all(np.isfinite(value).all() for value in load_file(str(path)).values())


@pytest.mark.slow
def test_a_gradient_that_overflows_never_reaches_the_weights(
    dataset: Path, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loss is finite, its gradient is not: a scale that only the backward pass sees."""
    from transformers import LlamaModel

    plain = LlamaModel.forward

    def forward(self: Any, *args: Any, **named: Any) -> Any:
        found = plain(self, *args, **named)
        if found.last_hidden_state.requires_grad:
            found.last_hidden_state.register_hook(lambda gradient: gradient * 3e38 * 3e38)
        return found

    monkeypatch.setattr(LlamaModel, "forward", forward)
    with pytest.raises(ModelError, match="the gradient at step 1 is not a finite number"):
        run(dataset, tiny_model, tmp_path, **STEADY)
    assert not (tmp_path / "out" / "model").exists()
