"""Folders with packed weights are named by their scheme, not by the numbers that are stored."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from vivace.models import identify

W4 = {"weights": {"num_bits": 4}, "input_activations": None}
W8 = {"weights": {"num_bits": 8}, "input_activations": {"num_bits": 8}}


@pytest.mark.parametrize(
    ("told", "named"),
    [
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": W4}}, "w4a16"),
        ({"quant_method": "compressed-tensors", "config_groups": {"group_0": W8}}, "w8a8"),
        ({"quant_method": "compressed-tensors"}, "compressed"),
        ({"quant_method": "compressed-tensors", "config_groups": []}, "compressed"),
        ({"quant_method": "gptq"}, "fp32"),
        ("nonsense", "fp32"),
    ],
)
def test_packed_weights_are_named_by_their_scheme(tiny_model: Path, tmp_path: Path, told: Any, named: str) -> None:
    folder = tmp_path / "packed"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": told}))
    assert identify(folder).weights == named
