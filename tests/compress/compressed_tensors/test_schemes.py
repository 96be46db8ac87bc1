"""Group sizes divide the model's, and what cannot be exported is refused in a sentence before anything is loaded."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vivace.compress.calibration import Calibration
from vivace.compress.compressed_tensors import SCHEMES, export
from vivace.compress.compressed_tensors.export import portable
from vivace.compress.compressed_tensors.schemes import group_size, kernel_note
from vivace.config.quantize import QuantizeSettings
from vivace.domain import Model, SilentProgress
from vivace.errors import ConfigError, ModelError

TEXTS = Calibration(((3, 4, 5, 6, 7, 8, 9, 10),), "domain")


def _sizes(hidden: int, heads: int, intermediate: int, **more: int) -> dict[str, Any]:
    return {"hidden_size": hidden, "num_attention_heads": heads, "intermediate_size": intermediate, **more}


@pytest.mark.parametrize(
    ("config", "most", "group"),
    [
        (_sizes(4096, 32, 11008), None, 128),
        (_sizes(4096, 32, 11008), 64, 64),
        (_sizes(576, 9, 1536), None, 64),  # SmolLM2-135M
        (_sizes(896, 14, 4864), None, 128),  # Qwen2.5-0.5B
        (_sizes(128, 4, 160), None, 32),
        (_sizes(128, 2, 256, head_dim=48), None, 32),
        (_sizes(128, 2, 256, head_dim=48), 128, 32),
    ],
)
def test_the_largest_group_that_divides_every_size_is_taken(config: dict[str, Any], most: int, group: int) -> None:
    assert group_size("model", config, most) == group


def test_sizes_that_no_group_divides_are_refused() -> None:
    with pytest.raises(ModelError, match="model cannot be exported: its matrices have 48, 96 inputs") as refusal:
        group_size("model", _sizes(48, 4, 96), None)
    assert "compressed-w8a8" in refusal.value.hint


def test_sizes_that_vllms_fastest_kernel_does_not_take_are_told() -> None:
    assert "576 inputs" in kernel_note(_sizes(576, 9, 1536))
    assert "1536" not in kernel_note(_sizes(576, 9, 1536))
    assert kernel_note(_sizes(896, 14, 4864)) == ""


def test_groups_that_vllm_does_not_read_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    model, settings = Model("tiny", tiny_model, "hf", "fp32"), QuantizeSettings(group_size=16)
    with pytest.raises(ConfigError, match="Groups of 16 weights are too small for vLLM"):
        export(model, "compressed-w4a16", tmp_path / "out", SilentProgress(), settings)


@pytest.mark.parametrize("kind", list(SCHEMES))
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"quantization_config": {"quant_method": "compressed-tensors"}}, r"already quantized \(compressed-tensors\)"),
        ({"architectures": ["MixtralForCausalLM"], "num_local_experts": 8}, "mixture of 8 experts"),
        ({"architectures": ["MambaForCausalLM"]}, "architecture MambaForCausalLM is not among"),
    ],
)
def test_a_model_that_cannot_be_exported_is_refused_with_the_reason(
    tiny_model: Path, tmp_path: Path, kind: str, change: dict[str, Any], reason: str
) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | change))
    with pytest.raises(ModelError, match=rf"odd cannot be exported: .*{reason}") as refusal:
        export(Model("odd", folder, "hf", "fp32"), kind, tmp_path / "out", SilentProgress(), None, TEXTS)
    assert refusal.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", list(SCHEMES))
def test_an_adapter_is_told_to_be_merged_first(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(ModelError, match="in format 'adapter'") as refusal:
        export(Model("tuned", tiny_model, "adapter", "fp32"), kind, tmp_path / "out", SilentProgress(), None, TEXTS)
    assert refusal.value.hint == "Merge it first."


def test_code_beside_the_weights_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "modeling_odd.py").write_text("print('run')")
    with pytest.raises(ModelError, match=r"modeling_odd\.py"):
        export(Model("odd", folder, "hf", "fp32"), "compressed-w8a8", tmp_path / "out", SilentProgress())


def test_older_servers_find_the_words_they_know() -> None:
    default = portable({"dtype": "float32", "rope_parameters": {"rope_theta": 1e5, "rope_type": "default"}})
    assert (default["dtype"], default["torch_dtype"], default["rope_theta"]) == ("bfloat16", "bfloat16", 1e5)
    assert "rope_scaling" not in default
    scaled = portable(
        {"dtype": "float16", "rope_parameters": {"rope_theta": 1e4, "rope_type": "llama3", "factor": 8.0}}
    )
    assert scaled["dtype"] == "float16"
    assert scaled["rope_scaling"] == {"rope_type": "llama3", "factor": 8.0}
    assert "rope_theta" not in portable({"dtype": "float16"})


def test_asking_for_an_export_needs_no_torch() -> None:
    code = (
        "import sys, vivace.compress.compressed_tensors\n"
        "print(sorted({'torch', 'transformers', 'llmcompressor', 'compressed_tensors'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": "src"}
    )
    assert done.stdout.strip() == "[]"
