"""What flows through a column decides how exactly it is kept."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize
from safetensors.numpy import load_file

from tests.compress.gguf.reading import LlamaCpp, write
from tests.compress.numbers import log_softmax, torch_logits
from vivace.compress.gguf.importance import Importance, measure_importance
from vivace.compress.gguf.quantizers import Quantizer
from vivace.compress.gguf.recipes import RECIPES, GgmlType, shares, tensor_type
from vivace.models.gguf import convert_gguf
from vivace.models.gguf_file import read_header

Floats = npt.NDArray[np.float32]
DOMAIN = [np.random.default_rng(number).integers(3, 120, 60).tolist() for number in range(12)]
OTHER = [np.random.default_rng(90 + number).integers(300, 512, 60).tolist() for number in range(12)]


@pytest.fixture(scope="module")
def importance_of(wide_model: Path) -> Callable[[list[list[int]]], Importance]:
    from vivace.models import load_causal_lm

    model = load_causal_lm(wide_model)
    return lambda rows: measure_importance(model, rows, lambda: None)


@pytest.mark.slow
def test_importance_is_the_mean_square_of_what_a_matrix_reads(
    wide_model: Path, importance_of: Callable[[list[list[int]]], Importance]
) -> None:
    weights = load_file(wide_model / "model.safetensors")
    ids = np.array([token for row in DOMAIN for token in row])
    embedded = weights["model.embed_tokens.weight"][ids].astype(np.float64)
    normed = embedded / np.sqrt((embedded**2).mean(-1, keepdims=True) + 1e-6)
    expected = ((normed * weights["model.layers.0.input_layernorm.weight"]) ** 2).mean(0)
    found = importance_of(DOMAIN)
    for part in "qkv":
        np.testing.assert_allclose(found[f"model.layers.0.self_attn.{part}_proj"], expected, rtol=1e-4)
    assert len(found) == 7 * 8
    assert all(values.dtype == np.float32 and (values >= 0).all() for values in found.values())
    # Every token counts as one, in long texts and in short ones.
    divided = [DOMAIN[0][:10], DOMAIN[0][10:]]
    whole, parts = importance_of([DOMAIN[0]]), importance_of(divided)
    np.testing.assert_allclose(
        parts["model.layers.0.self_attn.q_proj"], whole["model.layers.0.self_attn.q_proj"], rtol=1e-5
    )


def _read(path: Path) -> dict[str, Floats]:
    """Return the tensors as numbers, with the gguf package's reading of their blocks."""
    from gguf import GGUFReader

    return {
        tensor.name: dequantize(tensor.data, GGMLQuantizationType(tensor.tensor_type)).astype(np.float32)
        for tensor in GGUFReader(path).tensors
    }


def _error(path: Path, weights: dict[str, Floats], importance: Importance) -> tuple[float, dict[str, float]]:
    """Return how much of what the feed-forward matrices write is lost, by columns as important as `importance` says."""
    held, errors = _read(path), {}
    for layer in range(8):
        for ours, theirs in (("ffn_gate", "gate_proj"), ("ffn_up", "up_proj"), ("ffn_down", "down_proj")):
            name = f"model.layers.{layer}.mlp.{theirs}"
            change = held[f"blk.{layer}.{ours}.weight"] - weights[f"{name}.weight"]
            errors[name] = float((change**2 * importance[name]).sum())
    return sum(errors.values()), errors


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["gguf-q4_k_m", "gguf-q4_0", "gguf-q6_k"])
def test_an_importance_matrix_keeps_better_what_the_domain_needs(
    wide_model: Path, tmp_path: Path, importance_of: Callable[[list[list[int]]], Importance], kind: str
) -> None:
    weights, domain = load_file(wide_model / "model.safetensors"), importance_of(DOMAIN)
    paths = {
        name: write(wide_model, tmp_path / f"{name}.gguf", kind, rows)
        for name, rows in (("none", []), ("domain", DOMAIN), ("other", OTHER))
    }
    totals = {name: _error(path, weights, domain) for name, path in paths.items()}
    assert totals["domain"][0] < totals["none"][0]
    assert totals["domain"][0] < totals["other"][0]
    better = [totals["domain"][1][name] < totals["none"][1][name] for name in totals["none"][1]]
    assert np.mean(better) > 0.8
    said = read_header(paths["domain"]).metadata
    assert said["quantize.imatrix.dataset"] == "domain"
    assert said["quantize.imatrix.entries_count"] == 56
    assert said["quantize.imatrix.chunks_count"] == 12
    assert "quantize.imatrix.dataset" not in read_header(paths["none"]).metadata
    again = write(wide_model, tmp_path / "again.gguf", kind, DOMAIN)
    assert again.read_bytes() == paths["domain"].read_bytes()


@pytest.mark.slow
def test_llama_cpp_computes_with_what_the_blocks_stand_for(wide_model: Path, tmp_path: Path) -> None:
    texts = OTHER[:3]
    expected = torch_logits(wide_model, texts)
    lost, computed = {}, {}
    for kind in ("gguf-q8_0", "gguf-q6_k", "gguf-q4_k_m", "gguf-q4_0"):
        path = write(wide_model, tmp_path / f"{kind}.gguf", kind)
        convert_gguf(path, tmp_path / kind)
        held = torch_logits(tmp_path / kind, texts)
        with LlamaCpp(path) as model:
            ours = [model.logits(ids) for ids in texts]
        lost[kind], computed[kind] = _off(held, expected), _off(ours, held)
    print(lost, computed)
    # Fewer bits lose more of the model; what llama.cpp adds by rounding its activations to 8 bits is the same for all.
    assert lost["gguf-q8_0"] < lost["gguf-q6_k"] < lost["gguf-q4_k_m"] < lost["gguf-q4_0"]
    assert max(computed.values()) < 0.3


def _off(ours: list[Floats], theirs: list[Floats]) -> float:
    """Return the size of the difference as a share of the spread of the log-probabilities."""
    pairs = [(log_softmax(a), log_softmax(b)) for a, b in zip(ours, theirs, strict=True)]
    return max(float(np.sqrt(((a - b) ** 2).mean()) / b.std()) for a, b in pairs)


@pytest.mark.parametrize("kind", [GgmlType.Q4_0, GgmlType.Q5_0, GgmlType.Q8_0, GgmlType.Q4_K, GgmlType.Q6_K])
def test_llama_cpps_blocks_are_what_the_format_says_and_do_not_depend_on_threads(kind: GgmlType) -> None:
    values = np.random.default_rng(1).standard_normal((9000, 256)).astype(np.float32)
    one, four = Quantizer(1).quantize("w", values, kind), Quantizer(4).quantize("w", values, kind)
    np.testing.assert_array_equal(one, four)
    back = dequantize(one, GGMLQuantizationType(int(kind)))
    bits = 8 * one.shape[1] / 256
    assert np.sqrt(((back - values) ** 2).mean()) < 3.0 * 2 ** -(bits - 0.5)


def _types(
    kind: str, *, columns: int = 512, layers: int = 16, tied: bool = False, looks: bool = False
) -> dict[str, str]:
    names = ["token_embd.weight", "output.weight", "output_norm.weight"]
    names += [f"blk.{layer}.{part}.weight" for layer in range(layers) for part in ("attn_q", "attn_v", "ffn_down")]
    shapes = {name: (64,) if "norm" in name else (64, columns) for name in names}
    return {
        name: tensor_type(RECIPES[kind], name, shapes[name], layers=layers, tied=tied, importance=looks).name
        for name in names
    }


def test_the_mix_of_q4_k_m_spends_more_where_errors_cost_more() -> None:
    kinds = _types("gguf-q4_k_m")
    assert kinds["token_embd.weight"] == "Q4_K"
    assert kinds["output.weight"] == "Q6_K"
    assert kinds["output_norm.weight"] == "F32"
    better = [layer for layer in range(16) if kinds[f"blk.{layer}.ffn_down.weight"] == "Q6_K"]
    assert better == [0, 1, 4, 7, 10, 13, 14, 15]
    assert [layer for layer in range(16) if kinds[f"blk.{layer}.attn_v.weight"] == "Q6_K"] == better
    assert {kinds[f"blk.{layer}.attn_q.weight"] for layer in range(16)} == {"Q4_K"}
    assert _types("gguf-q4_k_m", tied=True)["token_embd.weight"] == "Q6_K"


def test_rows_that_are_no_multiple_of_256_get_the_next_larger_type_in_blocks_of_32() -> None:
    kinds = _types("gguf-q4_k_m", columns=576)
    assert (kinds["blk.2.attn_q.weight"], kinds["blk.0.attn_v.weight"]) == ("Q5_0", "Q8_0")
    assert set(_types("gguf-q6_k", columns=576).values()) == {"Q8_0", "F32"}
    assert set(_types("gguf-q4_0", columns=576).values()) == {"Q4_0", "Q8_0", "F32"}
    assert set(_types("gguf-q8_0", columns=40).values()) == {"F16", "F32"}
    assert set(_types("gguf-f16", columns=40).values()) == {"F16", "F32"}


def test_q4_0_with_importance_keeps_a_minimum_per_block_in_the_first_layers() -> None:
    assert _types("gguf-q4_0")["blk.0.ffn_down.weight"] == "Q4_0"
    kinds = _types("gguf-q4_0", looks=True)
    assert [layer for layer in range(16) if kinds[f"blk.{layer}.ffn_down.weight"] == "Q4_1"] == [0, 1]


def test_shares_are_told_by_weights() -> None:
    assert shares({GgmlType.Q4_K: 700, GgmlType.Q6_K: 299, GgmlType.F16: 1}) == "Q4_K 70 %, Q6_K 30 %"
