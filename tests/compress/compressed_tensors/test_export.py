"""A compressed-tensors folder opens in transformers, holds the weights it should, and nothing of this machine."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from tests.compress.compressed_tensors.conftest import Exported, Sources
from tests.compress.compressed_tensors.tensors import dequantized, matrices, stored
from tests.compress.numbers import Floats, token_logprobs, torch_logits
from vivace.compress.calibration import Calibration
from vivace.compress.compressed_tensors import SCHEMES, export
from vivace.compress.folder import read_config
from vivace.config.quantize import QuantizeSettings
from vivace.domain import Message, Model, SilentProgress
from vivace.models import ChatTokenizer, check_data_only, identify, load_causal_lm
from vivace.store.files import folder_digest

pytestmark = pytest.mark.slow

LAYERS = 2
MATRICES = 7


def _difference(folder: Path, source: Path, prompts: list[list[int]]) -> float:
    """Return the mean distance of the tokens' log-probabilities, in nats."""
    chosen = [ids for ids in prompts if 1 < len(ids) < 100]
    ours, theirs = torch_logits(folder, chosen), torch_logits(source, chosen)
    pairs = [token_logprobs(a, ids) - token_logprobs(b, ids) for a, b, ids in zip(ours, theirs, chosen, strict=True)]
    return float(np.abs(np.concatenate(pairs)).mean())


# The tiny models' weights are noise, which 4 bits hold badly: a trained model loses far less (docs/compress.md).
@pytest.mark.parametrize(
    ("kind", "looked", "family", "bound"),
    [
        ("compressed-w8a8", False, "LlamaForCausalLM", 0.15),
        ("compressed-w8a8", True, "LlamaForCausalLM", 0.15),
        ("compressed-w8a8", True, "Qwen2ForCausalLM", 0.15),
        ("compressed-w8a8", True, "Qwen3ForCausalLM", 0.15),
        ("compressed-w4a16", False, "LlamaForCausalLM", 1.5),
        ("compressed-w4a16", True, "LlamaForCausalLM", 1.5),
        ("compressed-w4a16", True, "Qwen2ForCausalLM", 1.5),
        ("compressed-w4a16", True, "Qwen3ForCausalLM", 1.5),
    ],
)
def test_transformers_opens_an_export_and_answers_nearly_as_before(
    packed: Exported, sources: Sources, prompts: list[list[int]], kind: str, looked: bool, family: str, bound: float
) -> None:
    difference = _difference(packed(kind, looked, family).path, sources(family).path, prompts)
    print(f"{kind} {looked} {family}: {difference:.3f}")
    assert 1e-4 < difference < bound


@pytest.mark.parametrize("family", ["LlamaForCausalLM"])
def test_int8_weights_are_the_models_within_half_a_step(packed: Exported, sources: Sources, family: str) -> None:
    tensors, before = stored(packed("compressed-w8a8", False, family).path), stored(sources(family).path)
    names = matrices(tensors)
    assert len(names) == LAYERS * MATRICES
    for name in names:
        assert tensors[f"{name}.weight"].dtype == torch.int8
        assert tensors[f"{name}.weight_scale"].dtype == torch.float32
        weights, steps = dequantized(tensors, name)
        assert np.all(np.abs(weights - before[f"{name}.weight"].numpy()) <= steps * 0.5001)
        # The largest of each row uses the range: the steps are no larger than they must be.
        assert np.all(np.abs(tensors[f"{name}.weight"].numpy().astype(int)).max(1) >= 127)


def test_int4_weights_are_the_models_within_half_a_step(packed: Exported, sources: Sources) -> None:
    tensors, before = stored(packed("compressed-w4a16").path), stored(sources("LlamaForCausalLM").path)
    names = matrices(tensors)
    assert len(names) == LAYERS * MATRICES
    for name in names:
        weights, steps = dequantized(tensors, name)
        # bfloat16 holds a scale to 1/256 of it, and the farthest weight is eight steps away.
        assert np.all(np.abs(weights - before[f"{name}.weight"].numpy()) <= steps * (0.5 + 1 / 32))


@pytest.mark.parametrize("kind", ["compressed-w8a8", "compressed-w4a16"])
@pytest.mark.parametrize("family", ["LlamaForCausalLM", "Qwen3ForCausalLM"])
def test_embeddings_and_head_keep_their_bits(packed: Exported, sources: Sources, kind: str, family: str) -> None:
    looked = family != "LlamaForCausalLM"
    tensors, before = stored(packed(kind, looked, family).path), stored(sources(family).path)
    tied = family == "LlamaForCausalLM"
    assert ("lm_head.weight" in tensors) is not tied
    for name in ["model.embed_tokens.weight"] + ([] if tied else ["lm_head.weight"]):
        assert torch.equal(tensors[name], before[name].to(torch.bfloat16))
    model = load_causal_lm(packed(kind, looked, family).path)
    assert (model.lm_head.weight is model.model.embed_tokens.weight) is tied


def _weighted_errors(folder: Path, source: Path, rows: tuple[tuple[int, ...], ...]) -> dict[str, float]:
    """Return what rounding changes of each matrix's outputs for the inputs that `rows` give it, as a share."""
    tensors = stored(folder)
    model = load_causal_lm(source)
    inputs: dict[str, list[Floats]] = {}
    for name in matrices(tensors):

        def note(_: torch.nn.Module, args: tuple[torch.Tensor, ...], name: str = name) -> None:
            inputs.setdefault(name, []).append(args[0][0].detach().numpy())

        model.get_submodule(name).register_forward_pre_hook(note)
    with torch.no_grad():
        for row in rows:
            model(torch.tensor([list(row)]))
    shares = {}
    for name, parts in inputs.items():
        seen, weight = np.concatenate(parts), model.get_submodule(name).weight.detach().numpy()
        off = seen @ (dequantized(tensors, name)[0] - weight).T
        shares[name] = float(np.square(off).sum() / np.square(seen @ weight.T).sum())
    return shares


def test_int4_that_looked_at_texts_errs_less_on_them(
    packed: Exported, sources: Sources, calibration: Calibration
) -> None:
    source = sources("LlamaForCausalLM").path
    blind = _weighted_errors(packed("compressed-w4a16").path, source, calibration.rows)
    looked = _weighted_errors(packed("compressed-w4a16", True).path, source, calibration.rows)
    assert sum(looked.values()) < 0.8 * sum(blind.values())


@pytest.fixture(scope="module")
def outliers(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Model:
    """The tiny model, with three channels whose activations are a hundred times larger and their weights smaller."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("outliers") / "model"
    shutil.copytree(tiny_model, folder)
    tensors = stored(folder)
    large = torch.ones(64)
    large[[5, 20, 41]] = 100
    readers = {"input_layernorm": "qkv", "post_attention_layernorm": ("gate", "up")}
    for layer in range(LAYERS):
        for norm, names in readers.items():
            tensors[f"model.layers.{layer}.{norm}.weight"] *= large
            for name in names:
                part = "self_attn" if norm == "input_layernorm" else "mlp"
                tensors[f"model.layers.{layer}.{part}.{name}_proj.weight"] /= large
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return Model("outliers", folder, "hf", "fp32")


def test_smoothing_saves_int8_activations_with_outliers(
    outliers: Model, tiny_model: Path, calibration: Calibration, prompts: list[list[int]], tmp_path: Path
) -> None:
    blind = export(outliers, "compressed-w8a8", tmp_path / "blind", SilentProgress())
    looked = export(outliers, "compressed-w8a8", tmp_path / "looked", SilentProgress(), None, calibration)
    without, smoothed = (_difference(model.path, tiny_model, prompts) for model in (blind, looked))
    print(f"without {without:.3f}, smoothed {smoothed:.3f}")
    assert smoothed < 0.5 * without


@pytest.mark.parametrize(("kind", "looked"), [("compressed-w8a8", True), ("compressed-w4a16", True)])
def test_the_same_input_gives_the_same_bytes(
    packed: Exported, sources: Sources, calibration: Calibration, tmp_path: Path, kind: str, looked: bool
) -> None:
    texts = calibration if looked else None
    again = export(sources("LlamaForCausalLM"), kind, tmp_path / "again", SilentProgress(), None, texts)
    assert folder_digest(again.path) == folder_digest(packed(kind, looked).path)


@pytest.mark.parametrize("kind", list(SCHEMES))
def test_an_export_is_a_folder_others_can_open(packed: Exported, sources: Sources, kind: str) -> None:
    source, model = sources("LlamaForCausalLM"), packed(kind, True)
    assert (model.format, model.weights, model.license) == ("hf", SCHEMES[kind].name, "Apache-2.0")
    assert identify(model.path).format == "hf"
    check_data_only(model.path)
    ours, theirs = ChatTokenizer.open(model.path), ChatTokenizer.open(source.path)
    messages = [Message("user", "Where is my order?")]
    assert ours.encode_chat(messages) == theirs.encode_chat(messages)
    assert ours.eos_ids == theirs.eos_ids == {2}
    assert json.loads((model.path / "generation_config.json").read_bytes())["eos_token_id"] == [2]
    config = read_config(model.path)
    assert config["quantization_config"]["quant_method"] == "compressed-tensors"
    assert config["quantization_config"]["ignore"] == ["lm_head"]
    assert config["dtype"] == config["torch_dtype"] == "bfloat16"
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (model.path / name).read_bytes() == (source.path / name).read_bytes()


@pytest.mark.parametrize("kind", list(SCHEMES))
def test_the_configuration_says_what_vllm_chooses_its_kernels_by(packed: Exported, kind: str) -> None:
    config = read_config(packed(kind, True).path)["quantization_config"]
    (group,) = config["config_groups"].values()
    weights, activations = group["weights"], group["input_activations"]
    assert group["targets"] == ["Linear"]
    assert (weights["type"], weights["symmetric"], weights["dynamic"]) == ("int", True, False)
    if kind == "compressed-w8a8":
        assert (config["format"], weights["num_bits"], weights["strategy"]) == ("int-quantized", 8, "channel")
        assert (activations["num_bits"], activations["strategy"], activations["dynamic"]) == (8, "token", True)
    else:
        assert (config["format"], weights["num_bits"], weights["strategy"]) == ("pack-quantized", 4, "group")
        assert (weights["group_size"], activations) == (64, None)


def test_settings_bound_the_groups(sources: Sources, tmp_path: Path) -> None:
    settings = QuantizeSettings(group_size=32)
    model = export(sources("LlamaForCausalLM"), "compressed-w4a16", tmp_path / "out", SilentProgress(), settings)
    assert stored(model.path)["model.layers.0.mlp.down_proj.weight_scale"].shape == (64, 128 // 32)


def test_the_recipe_is_plain_and_llm_compressor_reads_it(packed: Exported) -> None:
    from llmcompressor.recipe.recipe import Recipe

    for kind in SCHEMES:
        path = packed(kind, True).path / "recipe.yaml"
        assert yaml.safe_load(path.read_bytes())["default_stage"]
        assert "!!" not in path.read_text()
        modifiers = Recipe.create_instance(str(path)).modifiers
        assert all(getattr(modifier, "ignore", None) in ([], ["lm_head"]) for modifier in modifiers)


def test_an_export_names_no_place_on_this_machine(packed: Exported, sources: Sources) -> None:
    for kind in SCHEMES:
        folder = packed(kind, True).path
        for path in folder.iterdir():
            content = path.read_bytes()
            for place in (str(sources("LlamaForCausalLM").path), str(folder.parent), str(Path.home()), "vivace-"):
                assert place.encode() not in content, f"{path.name} names {place}"


def test_nothing_is_written_but_the_export(
    sources: Sources, calibration: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("here", "temporary", "models"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    # What a user may have set for runs of their own.
    monkeypatch.setenv("LLM_COMPRESSOR_LOG_FILE", "log.txt")
    monkeypatch.setenv("LLM_COMPRESSOR_LOG_FILE_LEVEL", "DEBUG")
    out = tmp_path / "models" / "out"
    export(sources("LlamaForCausalLM"), "compressed-w4a16", out, SilentProgress(), None, calibration)
    assert list((tmp_path / "here").iterdir()) == []
    assert list((tmp_path / "temporary").iterdir()) == []
    assert [path.name for path in (tmp_path / "models").iterdir()] == ["out"]


def test_positions_are_read_as_before(packed: Exported, sources: Sources) -> None:
    from transformers import AutoConfig

    ours, theirs = (
        AutoConfig.from_pretrained(model.path) for model in (packed("compressed-w8a8"), sources("LlamaForCausalLM"))
    )
    assert ours.rope_parameters == theirs.rope_parameters
    assert read_config(packed("compressed-w8a8").path)["rope_theta"] == theirs.rope_parameters["rope_theta"]
