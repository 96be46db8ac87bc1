"""What is counted from shapes is what torch counts while the step really runs."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from msgspec.structs import replace
from torch.utils.flop_counter import FlopCounterMode

from vivace.config.train import TrainSettings
from vivace.errors import ConfigError
from vivace.models import identify
from vivace.train.adapters import prepare_weights
from vivace.train.batches.packing import collate, collate_packed
from vivace.train.batches.plan import make_plan
from vivace.train.batches.rows import IGNORED, Row
from vivace.train.estimates.estimate import batch_shapes
from vivace.train.estimates.flops import Shape, skeleton, work_of
from vivace.train.head_loss import backbone, head_loss


def count_step(folder: Path, batch: dict[str, Any], settings: TrainSettings, *, backward: bool = True) -> int:
    """What torch counts in one real step; plain attention, since its counter does not know the CPU's fused one."""
    from transformers import AutoModelForCausalLM

    loaded = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    model = prepare_weights(loaded, identify(folder), settings)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    labels = batch.pop("labels")
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        hidden = backbone(inner)(**batch, use_cache=False).last_hidden_state
        loss: Any = head_loss(hidden, inner.get_output_embeddings().weight, labels)[0]
        if backward:
            loss.backward()
    return int(counter.get_total_flops())


def rows(*lengths: int) -> list[Row]:
    """Rows whose second half is learned."""
    made = []
    for length in lengths:
        ids = tuple(range(5, 5 + length))
        made.append(Row(ids, tuple(IGNORED if i < length // 2 else ids[i] for i in range(length))))
    return made


def columns(found: list[Row]) -> list[dict[str, Any]]:
    return [{"input_ids": row.ids, "labels": row.labels, "share": 1.0} for row in found]


def counted(folder: Path, settings: TrainSettings, shape: Shape, *, backward: bool = True) -> int:
    return work_of(skeleton(identify(folder), settings), settings).total([shape], backward=backward)


METHODS = [
    {"method": "lora", "lora_layers_fraction": 0.5},
    {"method": "lora", "lora_layers_fraction": 1.0},
    {"method": "lora", "lora_layers_fraction": 0.5, "lora_target_modules": ["down_proj"]},
    {"method": "lora", "lora_layers_fraction": 0.5, "lora_target_modules": ["o_proj"]},
    {"method": "dora"},
    {"method": "ia3"},
    {"method": "full"},
    {"method": "full", "freeze": ["embed_tokens", "layers.0."]},
]


@pytest.mark.parametrize("changes", METHODS, ids=lambda changes: " ".join(map(str, changes.values())))
def test_a_step_is_counted_as_torch_counts_it(tiny_model: Path, changes: dict[str, Any]) -> None:
    settings = TrainSettings(**changes)
    found = rows(90, 120)
    real = count_step(tiny_model, collate(columns(found), 2), settings)
    shape = Shape(2, 120, sum(row.learned for row in found))
    # (IA)3 leaves the queries of its lowest layer alone: one of attention's four products is not needed there.
    assert counted(tiny_model, settings, shape) == pytest.approx(real, rel=0.05 if settings.method == "ia3" else 0.01)


def test_packing_is_counted_by_the_lines_that_are_computed(tiny_model: Path) -> None:
    settings = TrainSettings(method="lora", packing=True, max_length=128, per_device_train_batch_size=4)
    found = rows(100, 60, 50, 20)
    plan = make_plan([len(row.ids) for row in found], batch_size=4, accumulation=1, epochs=1, max_tokens=None, seed=0)
    (shape,) = batch_shapes(found, plan, settings)
    assert (shape.rows, shape.length) == (2, 120)
    real = count_step(tiny_model, collate_packed(columns(found), 2, 128), settings)
    assert counted(tiny_model, settings, shape) == pytest.approx(real, rel=0.02)
    apart = settings.model_copy(update={"packing": False})
    assert [(each.rows, each.length) for each in batch_shapes(found, plan, apart)] == [(4, 100)]


def test_a_validation_has_no_backward_pass(tiny_model: Path) -> None:
    settings = TrainSettings()
    found = rows(90, 120)
    real = count_step(tiny_model, collate(columns(found), 2), settings, backward=False)
    shape = Shape(2, 120, sum(row.learned for row in found))
    assert counted(tiny_model, settings, shape, backward=False) == pytest.approx(real, rel=0.02)


def test_layers_below_the_lowest_trained_one_cost_no_backward_pass(tiny_model: Path) -> None:
    shape = Shape(4, 100, 200)
    half, whole = (counted(tiny_model, TrainSettings(lora_layers_fraction=share), shape) for share in (0.5, 1.0))
    everything = counted(tiny_model, TrainSettings(method="full"), shape)
    assert half < 0.85 * whole < whole < everything


def test_learned_tokens_before_a_prompt_are_computed_like_all_others(tiny_model: Path) -> None:
    settings = TrainSettings(method="prompt_tuning", num_virtual_tokens=20)
    work = work_of(skeleton(identify(tiny_model), settings), settings)
    assert work.trained == 20 * 64
    assert work.layers(Shape(2, 100, 50)) == replace(work, virtual_tokens=0).layers(Shape(2, 120, 50))
    assert work.backward_per_token == work.forward_per_token


def test_the_weights_are_counted_but_never_read(tiny_model: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(tiny_model, copy)
    whole = work_of(skeleton(identify(copy), TrainSettings()), TrainSettings())
    header = (copy / "model.safetensors").read_bytes()[:4000]
    (copy / "model.safetensors").write_bytes(header)
    base = identify(tiny_model)
    assert work_of(skeleton(replace(base, path=copy), TrainSettings()), TrainSettings()) == whole
    assert whole.parameters - whole.trained == 106_816


def test_a_setting_that_does_not_fit_the_model_is_refused_before_its_weights_are_read(tiny_model: Path) -> None:
    with pytest.raises(ConfigError, match="lora_target_modules names 'no_proj'"):
        skeleton(identify(tiny_model), TrainSettings(lora_target_modules=["no_proj"]))


def test_a_folder_that_transformers_cannot_build_is_left_to_the_loading(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "no-such-family"}')
    assert skeleton(replace(identify(tiny_model), path=tmp_path), TrainSettings()) is None
