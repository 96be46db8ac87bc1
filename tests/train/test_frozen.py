"""Layers that are not trained compute each conversation once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from tests.train.batches.test_packing import rows_of, tiny
from tests.train.material import run, stop_and_go_on, write_dataset
from vivace.store.files import folder_digest
from vivace.train.batches.packing import collate, collate_packed
from vivace.train.frozen import FrozenBottom, first_trained_layer, keep_frozen
from vivace.train.head_loss import backbone, head_loss

LAYERS = 4


def top_trained(family: str, **changes: Any) -> Any:
    """A model of four layers whose upper two are trained."""
    model = tiny(family, num_hidden_layers=LAYERS, **changes)
    model.requires_grad_(False)
    for name, weight in model.named_parameters():
        if ".2." in name or ".3." in name:
            weight.requires_grad_(True)
    return model


def kept(model: Any, budget: int = 1 << 20) -> FrozenBottom:
    bottom = keep_frozen(model, budget)
    assert bottom is not None
    return bottom


def given(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: value for name, value in batch.items() if name not in ("labels", "shares")}


def loss_and_gradients(model: Any, hidden: torch.Tensor, labels: torch.Tensor) -> tuple[float, torch.Tensor]:
    total, _right = head_loss(hidden, model.get_output_embeddings().weight, labels)
    total.backward()
    gradients = torch.cat([weight.grad.flatten() for weight in model.parameters() if weight.requires_grad])
    model.zero_grad(set_to_none=True)
    return float(total.detach()), gradients


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen3", "phi3"])
@pytest.mark.parametrize("packed", [False, True])
def test_loss_and_gradients_are_those_of_all_layers(family: str, packed: bool) -> None:
    model = top_trained(family)
    bottom = kept(model)
    rows = rows_of(12, 5, 9, 7)
    batch = collate_packed(rows, 0, 20) if packed else collate(rows, 0)
    whole = backbone(model)(**given(batch), use_cache=False).last_hidden_state
    loss, gradients = loss_and_gradients(model, whole, batch["labels"])
    for _again in range(2):
        short_loss, short = loss_and_gradients(model, bottom(**given(batch)), batch["labels"])
        assert short_loss == pytest.approx(loss, rel=1e-5)
        torch.testing.assert_close(short, gradients, rtol=1e-4, atol=1e-6)


def test_states_are_the_same_bits_in_every_batch_and_when_nothing_is_kept() -> None:
    model = top_trained("llama")
    rows = rows_of(12, 5, 9, 7)
    with torch.no_grad():
        alone = [kept(model)(**given(collate([row], 0))) for row in rows]
        keeping, forgetful = kept(model), kept(model, budget=0)
        states = [bottom._states(torch.tensor(row["input_ids"])) for bottom in (keeping, forgetful) for row in rows]
    assert all(torch.equal(a, b) for a, b in zip(states[:4], states[4:], strict=True))
    assert len(keeping.kept) == 4
    assert forgetful.kept == {}
    assert [state.shape[1] for state in alone] == [12, 5, 9, 7]


def test_a_conversation_that_was_read_before_goes_through_the_upper_layers_only() -> None:
    model = top_trained("llama")
    bottom = kept(model)
    calls = [0] * LAYERS
    for number, layer in enumerate(bottom.layers):
        layer.register_forward_hook(lambda *_given, number=number: calls.__setitem__(number, calls[number] + 1))
    batch = given(collate(rows_of(12, 5), 0))
    bottom(**batch)
    assert calls == [2, 2, 1, 1]  # each conversation alone through the bottom, the batch through the top
    bottom(**batch)
    assert calls == [2, 2, 2, 2]
    assert len(backbone(model).layers) == LAYERS  # type: ignore[arg-type]


def test_the_memory_is_bounded() -> None:
    model = top_trained("llama")
    one = 10 * 32 * 4
    bottom = kept(model, budget=2 * one)
    for row in rows_of(10, 10, 10, 10):
        bottom(**given(collate([row], 0)))
    assert bottom.used == 2 * one
    assert len(bottom.kept) == 2


def test_nothing_is_kept_where_the_layers_below_are_trained_or_differ_in_kind() -> None:
    assert first_trained_layer(top_trained("llama")) == 2
    whole = tiny("llama", num_hidden_layers=LAYERS)
    assert first_trained_layer(whole) == 0
    assert keep_frozen(whole, 1) is None
    mixed = top_trained("qwen2", layer_types=["full_attention", "sliding_attention"] * 2, sliding_window=4)
    assert keep_frozen(mixed, 1) is None


def test_nothing_is_kept_where_dropout_makes_the_states_differ_each_time() -> None:
    assert keep_frozen(top_trained("llama", attention_dropout=0.5), 1) is None
    assert keep_frozen(top_trained("llama", attention_dropout=0.0), 1) is not None


def test_training_for_several_epochs_keeps_the_states_and_ends_the_same(tiny_model: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path)
    changes = {"lora_layers_fraction": 0.5, "lora_dropout": 0.0, "learning_rate": 1e-3}
    with_states = run(dataset, tiny_model, tmp_path / "kept", **changes)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vivace.train.trainer.WORTH", 1e9)
        without = run(dataset, tiny_model, tmp_path / "not", **changes)
    assert with_states["frozen_layers"] == 1
    assert without["frozen_layers"] == 0
    assert with_states["best_validation_loss"] == pytest.approx(without["best_validation_loss"], rel=1e-5)
    weights = [load_file(tmp_path / name / "out/model/adapter_model.safetensors") for name in ("kept", "not")]
    for name, weight in weights[0].items():
        np.testing.assert_allclose(weight, weights[1][name], rtol=1e-2, atol=1e-4, err_msg=name)


def test_a_run_that_keeps_states_and_is_broken_off_ends_with_the_same_bits(tiny_model: Path, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path)
    changes = {"lora_layers_fraction": 0.5, "lora_dropout": 0.0}
    run(dataset, tiny_model, tmp_path / "through", **changes)
    stop_and_go_on(dataset, tiny_model, tmp_path / "broken", **changes)
    found = [folder_digest(tmp_path / name / "out" / "model")[0] for name in ("through", "broken")]
    assert found[0] == found[1]


def test_a_family_that_changes_embeddings_after_the_lookup_is_left_as_it_is() -> None:
    assert keep_frozen(top_trained("gpt2"), 1) is None  # adds positions to whatever it is given as embeddings
    assert keep_frozen(top_trained("gemma"), 1) is not None  # scales while it looks them up
