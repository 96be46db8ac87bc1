"""Models are opened and saved with torch, as data only."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vivace.errors import ModelError, ResourceError
from vivace.models import weights
from vivace.models.identify import check_data_only, identify
from vivace.models.tokenizer import ChatTokenizer
from vivace.models.weights import copy_tokenizer, load_causal_lm, load_with_adapter, save_model

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Any:
    return load_causal_lm(tiny_model)


def logits(model: Any, ids: tuple[int, ...] = (1, 50, 60, 70)) -> Any:
    import torch

    with torch.inference_mode():
        return model(torch.tensor([ids])).logits


def test_a_model_is_opened_for_inference_in_fp32(model: Any) -> None:
    import torch

    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert not model.training
    assert model.config._attn_implementation == "sdpa"


def test_a_saved_model_is_the_same_model(model: Any, tiny_model: Path, tmp_path: Path) -> None:
    out = save_model(model, tiny_model, tmp_path / "out" / "model")
    assert (logits(load_causal_lm(out)) == logits(model)).all()
    check_data_only(out)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json"):
        assert (out / name).read_bytes() == (tiny_model / name).read_bytes()
    assert ChatTokenizer.open(out).eos_ids == {2}
    assert not list(out.parent.glob(".*partial"))


def test_saving_again_replaces_the_folder(model: Any, tiny_model: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "left-over.txt").write_text("x")
    out = save_model(model, tiny_model, tmp_path / "model")
    assert not (out / "left-over.txt").exists()


def test_a_failed_save_leaves_the_old_folder(model: Any, tiny_model: Path, tmp_path: Path) -> None:
    out = save_model(model, tiny_model, tmp_path / "model")
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        save_model(model, tmp_path, out)
    assert identify(out).format == "hf"
    assert not list(tmp_path.glob(".*partial"))


def test_a_folder_with_a_pickle_is_not_opened(tiny_model: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(ModelError, match=r"pytorch_model\.bin"):
        load_causal_lm(folder)


@pytest.mark.parametrize("change", [{"model_type": "nothing-known"}, {"hidden_size": 63}, {"hidden_size": 128}])
def test_a_configuration_that_does_not_fit_gives_a_sentence(
    tiny_model: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    folder = shutil.copytree(tiny_model, tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match="cannot be opened"):
        load_causal_lm(folder)


def test_a_model_too_large_is_refused_before_it_is_loaded(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "fits", refuse)
    with pytest.raises(ResourceError):
        load_causal_lm(tiny_model)


def refuse(model: Any) -> int:
    from vivace.models.identify import fits

    return fits(model, available_bytes=1000)


def adapter_of(tiny_model: Path, out: Path) -> Path:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    tuned = get_peft_model(load_causal_lm(tiny_model), config)
    tuned.save_pretrained(str(out))
    for path in out.glob("README.md"):
        path.unlink()
    return out


def test_an_adapter_changes_its_model(model: Any, tiny_model: Path, tmp_path: Path) -> None:
    folder = adapter_of(tiny_model, tmp_path / "adapter")
    assert identify(folder).base == tiny_model
    tuned = load_with_adapter(folder)
    assert not (logits(tuned) == logits(model)).all()
    merged = save_model(tuned.merge_and_unload(), tiny_model, tmp_path / "merged")
    assert abs(logits(load_causal_lm(merged)) - logits(load_with_adapter(folder))).max() < 1e-3


def test_an_adapter_without_its_model_says_which(tiny_model: Path, tmp_path: Path) -> None:
    folder = adapter_of(tiny_model, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "org/absent"}))
    with pytest.raises(ModelError, match="'org/absent', which is not here"):
        load_with_adapter(folder)
    assert load_with_adapter(folder, tiny_model)


def test_copying_a_tokenizer_needs_one(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        copy_tokenizer(tmp_path, tmp_path / "out")


@pytest.mark.real
def test_the_real_model_answers_sensibly(real_model: Path) -> None:
    import torch

    from vivace.domain import Message

    tokenizer, model = ChatTokenizer.open(real_model), load_causal_lm(real_model)
    ids = tokenizer.encode_chat([Message("user", "What is the capital of France?")])
    with torch.inference_mode():
        out = model.generate(torch.tensor([ids]), max_new_tokens=24, do_sample=False)[0][len(ids) :].tolist()
    assert "Paris" in tokenizer.decode(out)
    assert out[-1] in tokenizer.eos_ids
