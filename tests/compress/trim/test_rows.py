"""Weights are copied byte for byte, with fewer rows where there is one per token."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from vivace.compress.trim.rows import INDEX, copy_rows, copy_weights, tensors_of, weight_files
from vivace.errors import ModelError

ROWS = (7, 0, 3, 3)


def test_chosen_rows_are_copied_in_order_and_all_else_as_it_is(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    weights = {
        "embed": random.standard_normal((9, 5)).astype(np.float32),
        "bias": random.standard_normal(9).astype(np.float16),
        "other": random.standard_normal((9, 2, 3)).astype(np.float64),
        "scalar": np.array(3, np.int64),
    }
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    copy_rows(tmp_path / "model.safetensors", tmp_path / "out.safetensors", {"embed": ROWS, "bias": ROWS})
    made = load_file(tmp_path / "out.safetensors")
    assert {name: value.dtype for name, value in made.items()} == {name: value.dtype for name, value in weights.items()}
    np.testing.assert_array_equal(made["embed"], weights["embed"][list(ROWS)])
    np.testing.assert_array_equal(made["bias"], weights["bias"][list(ROWS)])
    np.testing.assert_array_equal(made["other"], weights["other"])
    assert made["scalar"] == 3
    with safe_open(tmp_path / "out.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def test_bfloat16_and_eight_bit_floats_keep_their_type(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file as load
    from safetensors.torch import save_file as save

    torch.manual_seed(0)
    weights = {"a": torch.randn(9, 5).bfloat16(), "b": torch.randn(9, 3).to(torch.float8_e4m3fn)}
    save(weights, tmp_path / "model.safetensors")
    copy_rows(tmp_path / "model.safetensors", tmp_path / "out.safetensors", {"a": ROWS, "b": ROWS})
    for name, value in load(tmp_path / "out.safetensors").items():
        assert value.dtype == weights[name].dtype
        assert torch.equal(value.float(), weights[name].float()[list(ROWS)])


def test_shards_stay_shards_and_the_index_tells_the_new_size(tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    source.mkdir()
    out.mkdir()
    shards = {
        "model-00001-of-00002.safetensors": {"embed": np.arange(36, dtype=np.float32).reshape(9, 4)},
        "model-00002-of-00002.safetensors": {
            "head": np.arange(18, dtype=np.float32).reshape(9, 2),
            "norm": np.ones(4, np.float32),
        },
    }
    places = {name: file for file, tensors in shards.items() for name in tensors}
    for file, tensors in shards.items():
        save_file(tensors, source / file)
    (source / INDEX).write_text(json.dumps({"metadata": {"total_size": 232}, "weight_map": places}))
    # A second copy in another layout, as some publishers add it, is not the model's.
    save_file({"tok": np.ones((9, 1), np.float32)}, source / "consolidated.safetensors")
    assert [path.name for path in weight_files(source)] == sorted(shards)
    copy_weights(source, out, {"embed": ROWS, "head": ROWS})
    assert sorted(path.name for path in out.glob("*.safetensors")) == sorted(shards)
    index = json.loads((out / INDEX).read_text())
    assert index["weight_map"] == places
    assert index["metadata"]["total_size"] == 4 * (4 * 4 + 4 * 2 + 4)
    for file, tensors in shards.items():
        made = load_file(out / file)
        for name, value in tensors.items():
            np.testing.assert_array_equal(made[name], value if name == "norm" else value[list(ROWS)])


def test_large_tensors_are_copied_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vivace.compress.trim.rows._BLOCK_BYTES", 64)
    value = np.random.default_rng(1).standard_normal((50, 7)).astype(np.float32)
    save_file({"embed": value, "other": value * 2}, tmp_path / "model.safetensors")
    rows = list(range(49, -1, -3))
    copy_rows(tmp_path / "model.safetensors", tmp_path / "out.safetensors", {"embed": rows})
    made = load_file(tmp_path / "out.safetensors")
    np.testing.assert_array_equal(made["embed"], value[rows])
    np.testing.assert_array_equal(made["other"], value * 2)


def test_a_torn_file_is_named(tmp_path: Path) -> None:
    save_file({"embed": np.ones((9, 4), np.float32)}, tmp_path / "model.safetensors")
    whole = (tmp_path / "model.safetensors").read_bytes()
    for end in (4, 40, len(whole) - 8):
        (tmp_path / "model.safetensors").write_bytes(whole[:end])
        with pytest.raises(ModelError, match="not a whole safetensors file"):
            tensors_of(tmp_path / "model.safetensors")
