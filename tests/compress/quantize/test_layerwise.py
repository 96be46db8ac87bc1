"""Fitted models are what onnxruntime makes of them, and lose less than rounded ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.compress.prune.material import load
from tests.tiny import VOCAB_SIZE
from vivace.compress.quantize.layerwise import fit
from vivace.compress.quantize.rounding import rounded
from vivace.store.files import folder_digest


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    return torch.randint(3, VOCAB_SIZE, (6, 40), generator=torch.Generator().manual_seed(11)).tolist()


def _logits(folder: Path, rows: list[list[int]], *, round_to_four_bits: bool = False) -> Tensor:
    model = load(folder)
    with torch.no_grad():
        for layer in model.model.layers if round_to_four_bits else ():
            for part in layer.modules():
                if isinstance(part, torch.nn.Linear):
                    part.weight.copy_(rounded(part.weight))
        found: Tensor = model(torch.tensor(rows)).logits
    return found


def _damage(folder: Path, whole: Tensor, rows: list[list[int]]) -> float:
    made = _logits(folder, rows, round_to_four_bits=True)
    return float((made.log_softmax(-1) - whole.log_softmax(-1)).square().mean())


def test_a_fitted_model_is_four_bits_already_and_loses_less(loud: Path, rows: list[list[int]], tmp_path: Path) -> None:
    fit(loud, tmp_path / "out", rows)
    for part in load(tmp_path / "out").model.layers.modules():
        if isinstance(part, torch.nn.Linear):
            assert torch.allclose(rounded(part.weight), part.weight, atol=1e-6)
    whole = _logits(loud, rows)
    assert _damage(tmp_path / "out", whole, rows) < 0.8 * _damage(loud, whole, rows)


@pytest.mark.slow
def test_the_same_texts_give_the_same_bytes_and_others_others(
    loud: Path, rows: list[list[int]], tmp_path: Path
) -> None:
    for name, texts in (("one", rows), ("two", rows), ("three", rows[:2])):
        fit(loud, tmp_path / name, texts)
    assert folder_digest(tmp_path / "one") == folder_digest(tmp_path / "two") != folder_digest(tmp_path / "three")


@pytest.mark.slow
def test_it_runs_as_a_program_that_tells_of_each_layer(loud: Path, rows: list[list[int]], tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    command = [sys.executable, "-m", "vivace.compress.quantize.layerwise", str(loud)]
    done = subprocess.run(
        [*command, str(tmp_path / "out"), str(tmp_path / "rows.json")], capture_output=True, check=True
    )
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert told == [{"done": number, "total": 4} for number in (1, 2, 3, 4)]
    assert (tmp_path / "out" / "model.safetensors").is_file()
