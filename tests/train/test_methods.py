"""Every method trains, is written as PEFT reads it, and merges where it can."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from tests.train.material import run, write_dataset
from vivace.compress import merge
from vivace.config.train import TrainSettings
from vivace.domain import Model
from vivace.errors import ConfigError, ModelError, ResourceError
from vivace.models import ChatTokenizer, identify, load_causal_lm, load_with_adapter
from vivace.store import read_examples
from vivace.store.files import folder_digest
from vivace.train.batches.rows import encode_examples
from vivace.train.methods import LEARNING_RATES, check_method, learning_rate

ADAPTERS = {
    "dora": {},
    "rslora": {"learning_rate": 5e-3},
    "ia3": {"learning_rate": 0.1},
    "prompt_tuning": {"learning_rate": 0.1, "num_virtual_tokens": 5},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("dataset"))


@pytest.fixture(scope="module")
def tuned(dataset: Path, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Any]]:
    """One short run of each method."""
    made = {}
    for method, changes in ADAPTERS.items():
        folder = tmp_path_factory.mktemp(method)
        made[method] = folder / "out" / "model", run(dataset, tiny_model, folder, method=method, **changes)
    return made


def logits(model: Any) -> Any:
    import torch

    with torch.no_grad():
        return model(input_ids=torch.arange(10, 60)[None]).logits


def loss_of(model: Any, dataset: Path, base: Path) -> float:
    """The loss per learned token that transformers and PEFT tell for the validation rows."""
    import torch

    rows = encode_examples(ChatTokenizer.open(base), read_examples(dataset, "validation"), "Be kind.", 512).rows
    total = 0.0
    for row in rows:
        with torch.no_grad():
            loss = model(input_ids=torch.tensor([row.ids]), labels=torch.tensor([row.labels])).loss
        total += float(loss) * row.learned
    return total / sum(row.learned for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("method", list(ADAPTERS))
def test_each_method_learns_and_changes_nothing_but_its_own_weights(
    tuned: dict[str, tuple[Path, Any]], tiny_model: Path, method: str
) -> None:
    folder, facts = tuned[method]
    assert facts["best_validation_loss"] < facts["validation_loss_before"]
    weights = load_file(str(folder / "adapter_model.safetensors"))
    assert facts["trainable_parameters"] == sum(value.size for value in weights.values())
    assert identify(folder).format == "adapter"
    config = json.loads((folder / "adapter_config.json").read_text())
    assert (config["base_model_name_or_path"], config["inference_mode"]) == (identify(tiny_model).name, True)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["dora", "rslora", "ia3"])
def test_the_merged_model_says_what_base_and_adapter_say(
    tuned: dict[str, tuple[Path, Any]], tiny_model: Path, tmp_path: Path, method: str
) -> None:
    import torch

    folder, _facts = tuned[method]
    merged = merge(Model("tuned", folder, "adapter", "fp32", base=tiny_model), tmp_path / "merged")
    apart = logits(load_with_adapter(folder, tiny_model))
    torch.testing.assert_close(logits(load_causal_lm(merged.path)), apart, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(load_causal_lm(tiny_model)), apart, atol=1e-2)


@pytest.mark.slow
def test_peft_reads_learned_tokens_as_they_were_trained(
    tuned: dict[str, tuple[Path, Any]], dataset: Path, tiny_model: Path
) -> None:
    folder, facts = tuned["prompt_tuning"]
    assert facts["best_validation_loss"] == pytest.approx(
        loss_of(load_with_adapter(folder, tiny_model), dataset, tiny_model), rel=1e-4
    )
    assert facts["trainable_parameters"] == 5 * 64


@pytest.mark.slow
def test_learned_tokens_cannot_be_merged(tuned: dict[str, tuple[Path, Any]], tiny_model: Path, tmp_path: Path) -> None:
    adapter = Model("tuned", tuned["prompt_tuning"][0], "adapter", "fp32", base=tiny_model)
    with pytest.raises(ModelError, match="cannot be merged"):
        merge(adapter, tmp_path / "merged")


@pytest.mark.slow
@pytest.mark.parametrize("method", list(ADAPTERS))
def test_each_method_continues_to_the_same_bits(
    dataset: Path, tiny_model: Path, tuned: dict[str, tuple[Path, Any]], tmp_path: Path, method: str
) -> None:
    from tests.train.material import stop_and_go_on

    stop_and_go_on(dataset, tiny_model, tmp_path, method=method, **ADAPTERS[method])
    assert folder_digest(tmp_path / "out")[0] == folder_digest(tuned[method][0].parent)[0]


@pytest.mark.slow
def test_rslora_scales_by_the_root_of_the_rank_and_dora_has_magnitudes(
    tuned: dict[str, tuple[Path, Any]], tiny_model: Path
) -> None:
    layer = load_with_adapter(tuned["rslora"][0], tiny_model).get_base_model().model.layers[0].self_attn.q_proj
    assert layer.scaling["default"] == pytest.approx(8 / np.sqrt(4))
    assert any("magnitude" in name for name in load_file(str(tuned["dora"][0] / "adapter_model.safetensors")))


@pytest.mark.slow
def test_ia3_rescales_keys_values_and_feed_forward_of_the_top_layers_alone(
    dataset: Path, tiny_model: Path, tmp_path: Path
) -> None:
    run(dataset, tiny_model, tmp_path, method="ia3", lora_layers_fraction=0.5, num_train_epochs=1)
    weights = load_file(str(tmp_path / "out" / "model" / "adapter_model.safetensors"))
    assert {name.split("layers.")[1].rsplit(".", 1)[0] for name in weights} == {
        "1.self_attn.k_proj", "1.self_attn.v_proj", "1.mlp.down_proj",
    }  # fmt: skip
    model = load_with_adapter(tmp_path / "out" / "model", tiny_model)
    layer = model.get_base_model().model.layers[1]
    assert (layer.mlp.down_proj.is_feedforward, layer.self_attn.k_proj.is_feedforward) == (True, False)


def test_ia3_refuses_a_family_whose_layers_it_does_not_know(tiny_model: Path) -> None:
    from vivace.train.adapters import prepare_weights

    model = load_causal_lm(tiny_model)
    model.config.model_type = "unheard-of"
    with pytest.raises(ModelError, match="family 'unheard-of'"):
        prepare_weights(model, identify(tiny_model), TrainSettings(method="ia3"))


def test_qlora_says_what_works_instead_where_there_is_no_gpu() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(ResourceError, match=r"needs a CUDA GPU.*method = \"lora\""):
        check_method(TrainSettings(method="qlora"))


def test_learned_tokens_and_packed_rows_exclude_one_another() -> None:
    with pytest.raises(ConfigError, match="packing = true does not go with prompt_tuning"):
        check_method(TrainSettings(method="prompt_tuning", packing=True))


def test_every_method_has_a_learning_rate_of_its_own() -> None:
    methods = set(TrainSettings.model_fields["method"].annotation.__args__)
    assert set(LEARNING_RATES) == methods
    assert learning_rate(TrainSettings(method="dora", learning_rate=0.5)) == 0.5


@pytest.fixture(scope="module")
def capped(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Gemma 2 folder: its head caps the logits, so that the reference loss is used."""
    import torch
    from transformers import Gemma2Config, Gemma2ForCausalLM

    folder = tmp_path_factory.mktemp("capped") / "model"
    shutil.copytree(tiny_model, folder)
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=512, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, max_position_embeddings=1024, final_logit_softcapping=3.0,
        bos_token_id=1, eos_token_id=2, pad_token_id=2,
    )  # fmt: skip
    Gemma2ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"packing": True},
        {"label_smoothing_factor": 0.1},
        {"method": "prompt_tuning", "learning_rate": 0.1, "label_smoothing_factor": 0.1},
        {"method": "ia3", "learning_rate": 0.1, "gradient_checkpointing": True},
        {"train_sampling_strategy": "curriculum", "curriculum": "loss"},
    ],
    ids=str,
)
def test_a_family_that_caps_its_logits_trains_in_every_way(
    dataset: Path, capped: Path, tmp_path: Path, changes: dict[str, Any]
) -> None:
    facts = run(dataset, capped, tmp_path, **{"num_train_epochs": 3, **changes})
    assert facts["best_validation_loss"] < facts["validation_loss_before"]


@pytest.mark.slow
def test_learned_tokens_of_a_family_that_caps_its_logits_are_measured_as_peft_does(
    dataset: Path, capped: Path, tmp_path: Path
) -> None:
    facts = run(
        dataset, capped, tmp_path, method="prompt_tuning", learning_rate=0.1, num_train_epochs=2, num_virtual_tokens=5
    )
    assert facts["best_validation_loss"] == pytest.approx(
        loss_of(load_with_adapter(tmp_path / "out" / "model", capped), dataset, capped), rel=1e-4
    )
