"""What cannot be exported is refused with its reason, before anything heavy is loaded."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from vivace.compress import KINDS, export
from vivace.config import Settings
from vivace.domain import Model, SilentProgress
from vivace.errors import ConfigError, ModelError

REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"architectures": ["T5ForConditionalGeneration"], "is_encoder_decoder": True}, "is an encoder-decoder"),
    ({"architectures": ["MixtralForCausalLM"], "num_local_experts": 8}, "mixture of 8 experts"),
    ({"architectures": ["Qwen3MoeForCausalLM"], "num_experts": 128}, "mixture of 128 experts"),
    ({"architectures": ["MistralForCausalLM"], "sliding_window": 4096}, "window of 4096 tokens"),
    (
        {"architectures": ["Qwen2ForCausalLM"], "sliding_window": 512, "use_sliding_window": True},
        "window of 512 tokens",
    ),
    ({"layer_types": ["full_attention", "sliding_attention"]}, "attend by sliding_attention"),
    ({"layer_types": ["linear_attention", "full_attention"]}, "attend by linear_attention"),
    ({"architectures": ["MambaForCausalLM"]}, "architecture MambaForCausalLM is not among LlamaForCausalLM"),
    ({"architectures": None}, "architecture unknown is not among"),
    ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, r"rotary embedding \(dynamic\)"),
    ({"quantization_config": {"quant_method": "gptq"}}, r"already quantized \(gptq\)"),
]


def _changed(tiny_model: Path, folder: Path, change: dict[str, Any]) -> Model:
    shutil.copytree(tiny_model, folder)
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | change))
    return Model("odd", folder, "hf", "fp32")


@pytest.mark.parametrize("kind", ["openvino-int8", "onnx-int4"])
@pytest.mark.parametrize(("change", "reason"), REFUSED)
def test_a_model_that_cannot_be_exported_is_refused_with_the_reason(
    tiny_model: Path, tmp_path: Path, change: dict[str, Any], reason: str, kind: str
) -> None:
    model = _changed(tiny_model, tmp_path / "model", change)
    with pytest.raises(ModelError, match=rf"odd cannot be exported: .*{reason}") as refusal:
        export(model, kind, tmp_path / "out", SilentProgress())
    assert refusal.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
def test_a_window_that_only_the_library_knows_of_is_refused_too(tiny_model: Path, tmp_path: Path) -> None:
    # Mistral's configuration in transformers slides over 4096 tokens where config.json says nothing.
    model = _changed(tiny_model, tmp_path / "model", {"architectures": ["MistralForCausalLM"], "model_type": "mistral"})
    with pytest.raises(ModelError, match="window of 4096 tokens"):
        export(model, "openvino-int8", tmp_path / "out", SilentProgress())
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("kind", list(KINDS))
def test_an_adapter_is_told_to_be_merged_first(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(ModelError, match="in format 'adapter'") as refusal:
        export(Model("tuned", tiny_model, "adapter", "fp32"), kind, tmp_path / "out", SilentProgress())
    assert refusal.value.hint == "Merge it first."


def test_an_unknown_kind_names_the_nearest(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refusal:
        export(Model("tiny", tiny_model, "hf", "fp32"), "openvino-in8", tmp_path / "out", SilentProgress())
    assert str(refusal.value) == "There is no export 'openvino-in8'. Did you mean 'openvino-int8'?"


def test_settings_and_exports_name_the_same_kinds() -> None:
    annotation = type(Settings().compress).model_fields["exports"].annotation
    assert set(get_args(get_args(annotation)[0])) == set(KINDS)


def test_a_folder_with_code_in_it_is_not_exported(tiny_model: Path, tmp_path: Path) -> None:
    model = _changed(tiny_model, tmp_path / "model", {})
    (model.path / "modeling_odd.py").write_text("print('run')")
    with pytest.raises(ModelError, match=r"modeling_odd\.py"):
        export(model, "openvino-int8", tmp_path / "out", SilentProgress())


def test_refusing_needs_no_torch() -> None:
    code = (
        "import sys, vivace.compress\n"
        "print(sorted({'torch', 'transformers', 'openvino', 'nncf', 'onnx'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": "src"}
    )
    assert done.stdout.strip() == "[]"
