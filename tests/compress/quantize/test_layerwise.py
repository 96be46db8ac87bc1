"""Rescaled models answer as before and round better; fitted ones are what onnxruntime makes of them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.compress.prune.material import load, make_model
from tests.tiny import VOCAB_SIZE
from vivace.compress.quantize.layerwise import fit, rescale
from vivace.compress.quantize.rounding import rounded
from vivace.errors import ModelError
from vivace.store.files import folder_digest

LOUD, LOUDER = 7, 50.0


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    return torch.randint(3, VOCAB_SIZE, (6, 40), generator=torch.Generator().manual_seed(11)).tolist()


@pytest.fixture(scope="module")
def llama(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama, one input channel of whose matrices is fifty times louder than the others."""
    folder = make_model(tmp_path_factory.mktemp("llama") / "model", tiny_model, "llama", hidden_size=64)
    model = load(folder)
    with torch.no_grad():
        for layer in model.model.layers:
            for norm in (layer.input_layernorm, layer.post_attention_layernorm):
                norm.weight[LOUD] = LOUDER
    model.save_pretrained(folder)
    return folder


def _logits(folder: Path, rows: list[list[int]], *, round_to_four_bits: bool = False) -> Tensor:
    model = load(folder)
    with torch.no_grad():
        for layer in model.model.layers if round_to_four_bits else ():
            for part in layer.modules():
                if isinstance(part, torch.nn.Linear):
                    part.weight.copy_(rounded(part.weight))
        found: Tensor = model(torch.tensor(rows)).logits
    return found


@pytest.mark.slow
@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "qwen3"])
def test_a_rescaled_model_answers_as_before(
    tiny_model: Path, rows: list[list[int]], tmp_path: Path, family: str
) -> None:
    folder = make_model(tmp_path / "model", tiny_model, family)
    found = rescale(folder, tmp_path / "out", rows)
    before, after = _logits(folder, rows), _logits(tmp_path / "out", rows)
    assert float((after - before).abs().max()) < 1e-4 * float(before.abs().max())
    exponents = [exponent for layer in found["exponents"] for exponent in layer.values()]
    assert len(exponents) == 16
    assert max(exponents) > 0  # something was moved


def _damage(folder: Path, whole: Tensor, rows: list[list[int]]) -> float:
    made = _logits(folder, rows, round_to_four_bits=True)
    return float((made.log_softmax(-1) - whole.log_softmax(-1)).square().mean())


def test_a_loud_channel_survives_four_bits_when_it_is_rescaled(
    llama: Path, rows: list[list[int]], tmp_path: Path
) -> None:
    rescale(llama, tmp_path / "out", rows)
    whole = _logits(llama, rows)
    assert _damage(tmp_path / "out", whole, rows) < 0.7 * _damage(llama, whole, rows)
    gain = load(llama).model.layers[1].input_layernorm.weight
    assert load(tmp_path / "out").model.layers[1].input_layernorm.weight[LOUD] < 0.5 * gain[LOUD]


def test_a_fitted_model_is_four_bits_already_and_loses_less(llama: Path, rows: list[list[int]], tmp_path: Path) -> None:
    fit(llama, tmp_path / "out", rows)
    for part in load(tmp_path / "out").model.layers.modules():
        if isinstance(part, torch.nn.Linear):
            assert torch.allclose(rounded(part.weight), part.weight, atol=1e-6)
    whole = _logits(llama, rows)
    assert _damage(tmp_path / "out", whole, rows) < 0.8 * _damage(llama, whole, rows)


@pytest.mark.slow
def test_the_same_texts_give_the_same_bytes_and_others_others(
    llama: Path, rows: list[list[int]], tmp_path: Path
) -> None:
    for name, texts in (("one", rows), ("two", rows), ("three", rows[:2])):
        fit(llama, tmp_path / name, texts)
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two") != folder_digest(tmp_path / "three")


@pytest.mark.slow
def test_it_runs_as_a_program_that_tells_of_each_layer(llama: Path, rows: list[list[int]], tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    command = [sys.executable, "-m", "vivace.compress.quantize.layerwise", str(llama)]
    done = subprocess.run(
        [*command, str(tmp_path / "out"), str(tmp_path / "rows.json"), "fit"], capture_output=True, check=True
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told == [{"done": number, "total": 4} for number in (1, 2, 3, 4)]
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_a_model_that_is_no_such_decoder_is_refused(tiny_model: Path, rows: list[list[int]], tmp_path: Path) -> None:
    folder = make_model(tmp_path / "model", tiny_model, "phi3")
    with pytest.raises(ModelError, match="cannot be rescaled"):
        rescale(folder, tmp_path / "out", rows)
    assert not (tmp_path / "out").exists()
