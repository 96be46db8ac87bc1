"""A merged model is its base with the adapter in it, and nothing else."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.compress.numbers import Floats, torch_logits
from vivace.compress import merge
from vivace.domain import Message, Model
from vivace.errors import ModelError
from vivace.models import ChatTokenizer, identify


@pytest.fixture(scope="module")
def adapter(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """An adapter on every linear layer that changes what the model says."""
    import torch
    from peft import LoraConfig, get_peft_model

    from vivace.models import load_causal_lm

    folder = tmp_path_factory.mktemp("adapter") / "model"
    torch.manual_seed(3)
    settings = LoraConfig(
        r=4, lora_alpha=8, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM"
    )
    get_peft_model(load_causal_lm(tiny_model), settings).save_pretrained(folder)
    return Model("tuned", folder, "adapter", "fp32", base=tiny_model, license="Apache-2.0")


def _adapter_logits(adapter: Model, prompts: list[list[int]]) -> list[Floats]:
    import torch

    from vivace.models import load_with_adapter

    model = load_with_adapter(adapter.path, adapter.base)
    with torch.no_grad():
        return [model(torch.tensor([ids])).logits[0].numpy() for ids in prompts]


@pytest.mark.slow
def test_merged_weights_answer_as_base_and_adapter_do(
    adapter: Model, tiny_model: Path, prompts: list[list[int]], tmp_path: Path
) -> None:
    merged = merge(adapter, tmp_path / "out")
    assert merged == Model("tuned", tmp_path / "out", "hf", "fp32", license="Apache-2.0")
    expected = _adapter_logits(adapter, prompts)
    for ours, theirs, plain in zip(
        torch_logits(merged.path, prompts), expected, torch_logits(tiny_model, prompts), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=0)
        assert np.abs(theirs - plain).max() > 0.1  # the adapter does something


@pytest.mark.slow
def test_a_merged_folder_is_the_bases_but_for_the_weights(adapter: Model, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()  # a workspace's folder is there already
    merge(adapter, out)
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
        assert (out / name).read_bytes() == (tiny_model / name).read_bytes()
    assert json.loads((out / "generation_config.json").read_bytes())["eos_token_id"] == [2]
    assert identify(out).format == "hf"
    assert identify(out).weights == "fp32"
    weights, before = load_file(out / "model.safetensors"), load_file(tiny_model / "model.safetensors")
    assert {name: value.shape for name, value in weights.items()} == {
        name: value.shape for name, value in before.items()
    }
    messages = [Message("user", "Hello")]
    assert ChatTokenizer.open(out).encode_chat(messages) == ChatTokenizer.open(tiny_model).encode_chat(messages)
    for path in out.glob("*.json"):
        for place in (str(tiny_model), str(adapter.path), str(tmp_path), str(Path.home())):
            assert place not in path.read_text()
    assert {oct(path.stat().st_mode & 0o777) for path in out.iterdir()} == {"0o644"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.slow
def test_an_adapter_with_numbers_that_are_not_finite_is_refused(adapter: Model, tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    shutil.copytree(adapter.path, folder)
    weights = load_file(folder / "adapter_model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: np.full_like(weights[name], np.nan)}, folder / "adapter_model.safetensors")
    broken = Model("tuned", folder, "adapter", "fp32", base=adapter.base)
    with pytest.raises(ModelError, match="cannot be merged"):
        merge(broken, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_model_passes_through(tiny_model: Path, tmp_path: Path) -> None:
    model = Model("tiny", tiny_model, "hf", "fp32")
    assert merge(model, tmp_path / "out") is model
    assert not (tmp_path / "out").exists()


def test_an_export_cannot_be_merged(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="in format 'openvino'"):
        merge(Model("tiny", tmp_path, "openvino", "int8"), tmp_path / "out")
