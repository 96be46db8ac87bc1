"""What is in a GGUF file is the model: for llama.cpp, and read back."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from tests.compress.gguf.reading import LlamaCpp, changed, small_model, with_exact_recipe, write
from tests.compress.numbers import log_softmax, torch_logits
from vivace.compress.gguf.layout import ARCHITECTURES, check_layout, gguf_name, rope_factors
from vivace.compress.support import ARCHITECTURES as EXPORTED
from vivace.errors import ModelError
from vivace.models.gguf import convert_gguf
from vivace.models.gguf_file import read_header

VARIANTS: list[tuple[str, dict[str, Any]]] = [
    ("LlamaForCausalLM", {"head_dim": 8}),
    ("LlamaForCausalLM", {"num_key_value_heads": 1, "tie_word_embeddings": True}),
    (
        "LlamaForCausalLM",
        {
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 10000.0, "factor": 8.0, "low_freq_factor": 1.0,
                "high_freq_factor": 4.0, "original_max_position_embeddings": 64,
            },
            "attention_bias": True,
        },
    ),
    ("LlamaForCausalLM", {"rope_parameters": {"rope_type": "linear", "rope_theta": 20000.0, "factor": 4.0}}),
    ("MistralForCausalLM", {"sliding_window": None, "head_dim": 16}),
    ("Qwen2ForCausalLM", {"tie_word_embeddings": True}),
    ("Qwen2ForCausalLM", {"vocab_size": 600, "rms_norm_eps": 1e-5}),
    ("Qwen3ForCausalLM", {"head_dim": 32}),
]  # fmt: skip
READ_BACK = [0, 1, 4, 5, 6]


def test_each_architecture_has_a_variant_here() -> None:
    assert {name for name, _ in VARIANTS} == set(EXPORTED) == set(ARCHITECTURES)


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "change"), VARIANTS)
def test_llama_cpp_computes_what_transformers_computes(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, change: dict[str, Any]
) -> None:
    folder = small_model(tiny_model, tmp_path / "model", architecture, **change)
    random = np.random.default_rng(5)
    prompts = [random.integers(1, 500, length).tolist() for length in (1, 2, 9, 64, 200)]
    expected = torch_logits(folder, prompts)
    with LlamaCpp(write(folder, tmp_path / "f32.gguf", with_exact_recipe(monkeypatch)), exact=True) as exact:
        for ids, logits in zip(prompts, expected, strict=True):
            np.testing.assert_allclose(exact.logits(ids), logits, atol=2e-5 * np.abs(logits).max(), rtol=0)
    # In fp16 llama.cpp rounds what it multiplies as well, and its cache.
    with LlamaCpp(write(folder, tmp_path / "f16.gguf", "gguf-f16")) as half:
        for ids, logits in zip(prompts, expected, strict=True):
            np.testing.assert_allclose(half.logits(ids), logits, atol=0.01 * np.abs(logits).max(), rtol=0)
    with LlamaCpp(write(folder, tmp_path / "q8.gguf", "gguf-q8_0")) as eight:
        off = [
            np.abs(log_softmax(eight.logits(ids)) - log_softmax(logits)).mean()
            for ids, logits in zip(prompts, expected, strict=True)
        ]
    assert max(off) < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("variant", READ_BACK)
def test_what_was_written_is_read_back_number_for_number(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variant: int
) -> None:
    architecture, change = VARIANTS[variant]
    folder = small_model(tiny_model, tmp_path / "model", architecture, **change)
    weights = load_file(folder / "model.safetensors")
    for kind in (with_exact_recipe(monkeypatch), "gguf-f16"):
        convert_gguf(write(folder, tmp_path / f"{kind}.gguf", kind), tmp_path / kind)
        back = load_file(tmp_path / kind / "model.safetensors")
        assert back.keys() == weights.keys()
        for name, values in weights.items():
            held = values if kind == "gguf-f32" or values.ndim == 1 else values.astype(np.float16).astype(np.float32)
            np.testing.assert_array_equal(back[name], held, err_msg=name)
    # Mistral's layers are Llama's, and read back as such.
    first, second = torch_logits(folder, [[5, 6, 7]])[0], torch_logits(tmp_path / "gguf-f32", [[5, 6, 7]])[0]
    np.testing.assert_allclose(second, first, atol=1e-5 * np.abs(first).max(), rtol=0)


def test_weights_in_bfloat16_and_in_several_files_are_read(tiny_model: Path, tmp_path: Path) -> None:
    import json

    import torch
    from safetensors.torch import save_file as save_tensors

    weights = load_file(tiny_model / "model.safetensors")
    folder = changed(tiny_model, tmp_path / "bf16", "config.json", lambda config: config.update(dtype="bfloat16"))
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    for number, part in enumerate((names[:7], names[7:])):
        tensors = {name: torch.from_numpy(weights[name]).bfloat16() for name in part}
        save_tensors(tensors, folder / f"model-{number}.safetensors")
    index = {name: f"model-{int(place >= 7)}.safetensors" for place, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    convert_gguf(write(folder, tmp_path / "out.gguf", "gguf-f16"), tmp_path / "back")
    back = load_file(tmp_path / "back" / "model.safetensors")
    for name, values in weights.items():
        held = torch.from_numpy(values).bfloat16().float().numpy()
        np.testing.assert_allclose(back[name], held, atol=1e-7, rtol=1e-3, err_msg=name)


def test_the_file_says_what_it_is_and_nothing_of_this_machine(tiny_model: Path, tmp_path: Path) -> None:
    path = write(tiny_model, tmp_path / "out.gguf", "gguf-q8_0")
    header = read_header(path)
    assert header.weights == "Q8_0"
    assert header.metadata["general.name"] == "Tiny"
    assert header.metadata["general.license"] == "apache-2.0"
    assert header.setting("block_count") == 2
    assert {tensor.type for tensor in header.tensors} == {0, 8}
    content = path.read_bytes()
    assert str(tiny_model).encode() not in content
    assert str(Path.home()).encode() not in content
    assert path.read_bytes() == write(tiny_model, tmp_path / "again.gguf", "gguf-q8_0").read_bytes()


def test_frequencies_without_scaling_have_no_factors_and_long_waves_are_stretched() -> None:
    assert rope_factors({"rope_parameters": {"rope_type": "default"}, "head_dim": 8}) is None
    rope = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0}
    rope |= {"high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    factors = rope_factors({"rope_parameters": rope, "head_dim": 128})
    assert factors is not None
    assert (factors[0], factors[-1]) == (1.0, 8.0)
    assert (np.diff(factors) >= 0).all()
    # Old configurations keep the same under other names.
    old = {key if key != "rope_type" else "type": value for key, value in rope.items() if key != "rope_theta"}
    np.testing.assert_array_equal(rope_factors({"rope_scaling": old, "rope_theta": 500000.0, "head_dim": 128}), factors)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": ["GemmaForCausalLM"]}, "is a GemmaForCausalLM; GGUF is written for Llama"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 4.0}}, "rotary embedding by 'yarn'"),
        ({"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}, "rotates a part"),
        ({"hidden_act": "gelu"}, "activation 'gelu'"),
        ({"hidden_size": None, "vocab_size": None}, "does not say hidden_size, vocab_size"),
        ({"architectures": ["Qwen3ForCausalLM"], "head_dim": None}, "does not say head_dim"),
    ],
)
def test_what_gguf_cannot_hold_is_refused_in_a_sentence(change: dict[str, Any], said: str) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"], "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2,
        "max_position_embeddings": 64, "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512,
    }  # fmt: skip
    assert check_layout(config, "tiny") == "llama"
    with pytest.raises(ModelError, match=said):
        check_layout({**config, **change}, "tiny")


def test_a_tensor_without_a_place_and_numbers_without_an_end_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"'model\.layers\.0\.mlp\.router\.weight' has no place"):
        gguf_name("model.layers.0.mlp.router.weight")
    weights = load_file(tiny_model / "model.safetensors")
    folder = changed(tiny_model, tmp_path / "model", "config.json", lambda _: None)
    for value, said in ((np.inf, "not finite"), (np.nan, "not finite"), (1e6, "more than fp16 can")):
        weights["model.layers.1.mlp.up_proj.weight"][3, 4] = value
        save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        with pytest.raises(ModelError, match=rf"blk\.1\.ffn_up\.weight holds .*{said}"):
            write(folder, tmp_path / "out.gguf", "gguf-f16")
