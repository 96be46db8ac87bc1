"""GGUF files become Hugging Face folders."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from safetensors.numpy import load_file

from tests.models.gguf_files import write_gguf
from vivace.errors import ModelError
from vivace.models import gguf
from vivace.models.gguf import convert_gguf
from vivace.models.tokenizer import ChatTokenizer


def all_weights(folder: Path) -> dict[str, np.ndarray]:
    return {name: values for path in folder.glob("*.safetensors") for name, values in load_file(path).items()}


def test_an_unquantized_model_survives_the_round_trip_bit_for_bit(tiny_model: Path, tmp_path: Path) -> None:
    convert_gguf(write_gguf(tiny_model, tmp_path / "tiny.gguf"), tmp_path / "hf")
    there, back = load_file(tiny_model / "model.safetensors"), all_weights(tmp_path / "hf")
    assert there.keys() == back.keys()
    assert all(np.array_equal(there[name], back[name]) for name in there)
    config, original = (json.loads((path / "config.json").read_text()) for path in (tmp_path / "hf", tiny_model))
    assert config == original


def test_special_tokens_come_from_the_metadata(tiny_model: Path, tmp_path: Path) -> None:
    convert_gguf(write_gguf(tiny_model, tmp_path / "tiny.gguf"), tmp_path / "hf")
    special = json.loads((tmp_path / "hf" / "special_tokens_map.json").read_text())
    assert special == {
        "bos_token": "<|im_start|>", "eos_token": "<|im_end|>", "pad_token": "<|im_end|>", "unk_token": "<|endoftext|>",
    }  # fmt: skip
    generation = json.loads((tmp_path / "hf" / "generation_config.json").read_text())
    assert generation == {"bos_token_id": 1, "eos_token_id": [2], "pad_token_id": 2}
    assert "quantization_config" not in json.loads((tmp_path / "hf" / "config.json").read_text())
    assert (tmp_path / "hf" / "chat_template.jinja").read_text() == (tiny_model / "chat_template.jinja").read_text()


@pytest.mark.parametrize("text", ["Hello", "", "naïve ☃ 😀", "a\n\n1. b", "in  2024", " <|im_end|> x", "\t\r\n"])
def test_the_tokenizer_survives_the_round_trip(tiny_model: Path, tmp_path: Path, text: str) -> None:
    convert_gguf(write_gguf(tiny_model, tmp_path / "tiny.gguf"), tmp_path / "hf")
    assert ChatTokenizer.open(tmp_path / "hf").encode(text) == ChatTokenizer.open(tiny_model).encode(text)


def test_smollm_numbers_are_split_from_the_spaces_before_them(tiny_model: Path, tmp_path: Path) -> None:
    # SmolLM2's own tokenizer cuts out every digit before it cuts words; transformers' GGUF reader forgets that.
    for pre, apart in (("smollm", True), ("gpt-2", False)):
        convert_gguf(write_gguf(tiny_model, tmp_path / f"{pre}.gguf", pre=pre), tmp_path / pre)
        splitter = json.loads((tmp_path / pre / "tokenizer.json").read_text())["pre_tokenizer"]
        assert (splitter["type"] == "Sequence") is apart


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
@pytest.mark.parametrize(("tied", "kind"), [(True, GGMLQuantizationType.Q4_1), (False, GGMLQuantizationType.Q8_0)])
def test_weights_and_config_are_what_transformers_reads(
    tiny_model: Path, tmp_path: Path, architecture: str, tied: bool, kind: GGMLQuantizationType
) -> None:
    from transformers import AutoModelForCausalLM

    write_gguf(tiny_model, tmp_path / "tiny.gguf", architecture=architecture, kind=kind, tied=tied, pre="qwen2")
    convert_gguf(tmp_path / "tiny.gguf", tmp_path / "hf")
    reference = AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="tiny.gguf")
    ours = AutoModelForCausalLM.from_pretrained(tmp_path / "hf")
    expected, found = reference.state_dict(), ours.state_dict()
    assert expected.keys() == found.keys()
    assert all(bool((expected[name] == found[name]).all()) for name in expected)
    for name in ("rope_parameters", "num_key_value_heads", "max_position_embeddings", "tie_word_embeddings"):
        assert getattr(ours.config, name) == getattr(reference.config, name)
    assert ours.config.rms_norm_eps == pytest.approx(reference.config.rms_norm_eps, rel=1e-6)


def test_large_models_are_written_in_shards_that_together_are_the_model(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gguf, "SHARD_BYTES", 100_000)
    convert_gguf(write_gguf(tiny_model, tmp_path / "tiny.gguf"), tmp_path / "hf")
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text())
    assert len(set(index["weight_map"].values())) > 2
    assert index["weight_map"].keys() == load_file(tiny_model / "model.safetensors").keys()
    assert all_weights(tmp_path / "hf").keys() == index["weight_map"].keys()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"architecture": "gemma2"}, "gemma2"),
        ({"pre": "tekken"}, "tekken"),
        ({"extra_tensor": "blk.0.attn_sinks.weight"}, "attn_sinks"),
        ({"extra_tensor": "rope_freqs.weight"}, "rotary"),
    ],
)
def test_what_cannot_be_read_right_is_refused_by_name(
    tiny_model: Path, tmp_path: Path, change: dict[str, str], named: str
) -> None:
    path = write_gguf(tiny_model, tmp_path / "tiny.gguf", **change)
    with pytest.raises(ModelError, match=named):
        convert_gguf(path, tmp_path / "hf")


def test_a_cut_file_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    path = write_gguf(tiny_model, tmp_path / "tiny.gguf")
    path.write_bytes(path.read_bytes()[:-50_000])
    with pytest.raises(ModelError, match="damaged"):
        convert_gguf(path, tmp_path / "hf")


def test_converting_needs_no_torch(tiny_model: Path, tmp_path: Path) -> None:
    import subprocess

    write_gguf(tiny_model, tmp_path / "tiny.gguf")
    code = (
        "import sys; from pathlib import Path; from vivace.models.gguf import convert_gguf;"
        f"convert_gguf(Path({str(tmp_path / 'tiny.gguf')!r}), Path({str(tmp_path / 'hf')!r}));"
        "sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
