"""What a folder is, whether it is only data, whether it fits."""

import json
import shutil
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file, save_file

from tests.models.gguf_files import write_gguf
from vivace.domain import Model
from vivace.errors import ModelError, ResourceError
from vivace.models.identify import check_data_only, describe, fits, identify

IR = """<?xml version="1.0"?><net name="m"><layers>
<layer id="0" name="ids" type="Parameter"><data shape="?,?" element_type="i64" /></layer>
<layer id="1" type="Const"><data element_type="{kind}" shape="512, 64" offset="0" size="32768" /></layer>
<layer id="2" type="Const"><data element_type="f16" shape="512, 1" offset="32768" size="1024" /></layer>
<layer id="3" type="Const"><data element_type="i64" shape="1" offset="33792" size="8" /></layer>
</layers></net>"""


def copy(tiny_model: Path, out: Path) -> Path:
    return shutil.copytree(tiny_model, out)


def adapter(tiny_model: Path, out: Path, named: str | None = None) -> Path:
    out.mkdir()
    (out / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": named or str(tiny_model)}))
    save_file({"a": np.zeros((4, 8), np.float32)}, str(out / "adapter_model.safetensors"))
    return out


def test_a_hugging_face_folder_is_known(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model, tmp_path / "my-model")
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: apache-2.0\n---\n# Model\n")
    assert identify(folder) == Model("my-model", folder, "hf", "fp32", license="Apache-2.0")


def test_half_precision_is_told(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model, tmp_path / "m")
    weights = {name: values.astype(np.float16) for name, values in load_file(folder / "model.safetensors").items()}
    save_file(weights, str(folder / "model.safetensors"))
    assert identify(folder).weights == "fp16"


def test_a_relative_path_becomes_absolute(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_model.parent)
    assert identify(Path(tiny_model.name)).path == tiny_model


def test_an_adapter_knows_its_model(tiny_model: Path, tmp_path: Path) -> None:
    folder = adapter(tiny_model, tmp_path / "tuned")
    assert identify(folder) == Model("tuned", folder, "adapter", "fp32", base=tiny_model)
    assert identify(adapter(tiny_model, tmp_path / "other", "org/absent")).base is None


@pytest.mark.parametrize(("kind", "weights"), [("u8", "int8"), ("i4", "int4"), ("f16", "fp16"), ("f32", "fp32")])
def test_an_openvino_folder_is_known(tmp_path: Path, kind: str, weights: str) -> None:
    (tmp_path / "openvino_model.xml").write_text(IR.format(kind=kind))
    (tmp_path / "openvino_model.bin").write_bytes(bytes(33800))
    (tmp_path / "config.json").write_text('{"architectures": ["LlamaForCausalLM"], "max_position_embeddings": 99}')
    model = identify(tmp_path)
    assert (model.format, model.weights) == ("openvino", weights)
    check_data_only(tmp_path)
    assert describe(tmp_path).context_length == 99
    assert describe(tmp_path).parameters is None


def test_an_int4_model_with_int8_embeddings_is_int4(tmp_path: Path) -> None:
    constant = '<data element_type="{}" shape="1" offset="0" size="{}" />'
    (tmp_path / "openvino_model.xml").write_text(constant.format("u8", 56_000) + constant.format("i4", 53_000))
    assert identify(tmp_path).weights == "int4"


@pytest.mark.parametrize(("bits", "weights"), [(4, "int4"), (8, "int8"), (None, "fp32")])
def test_an_onnx_folder_is_known(tmp_path: Path, bits: int | None, weights: str) -> None:
    import onnx
    from onnx import helper

    attributes = {} if bits is None else {"bits": bits, "K": 64, "N": 64, "block_size": 32}
    node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["y"], domain="com.microsoft", **attributes)
    onnx.save(helper.make_model(helper.make_graph([node], "g", [], [])), str(tmp_path / "model.onnx"))
    (tmp_path / "genai_config.json").write_text('{"model": {"context_length": 512, "type": "llama"}}')
    model = identify(tmp_path)
    assert (model.format, model.weights) == ("onnx", weights)
    assert describe(tmp_path).context_length == 512


def test_a_gguf_file_is_known_alone_and_in_a_folder(tiny_model: Path, tmp_path: Path) -> None:
    path = write_gguf(tiny_model, tmp_path / "tiny.gguf")
    assert identify(path) == Model("tiny", path, "gguf", "fp32", license="Apache-2.0")
    assert identify(tmp_path).path == path
    described = describe(path)
    assert (described.parameters, described.context_length) == (describe(tiny_model).parameters, 1024)
    shutil.copy(path, tmp_path / "second.gguf")
    with pytest.raises(ModelError, match="2 GGUF files"):
        identify(tmp_path)


def test_parameters_are_those_torch_counts(tiny_model: Path) -> None:
    described = describe(tiny_model)
    weights = load_file(tiny_model / "model.safetensors")
    assert described.parameters == sum(values.size for values in weights.values())
    assert described.architecture == "LlamaForCausalLM"
    assert described.context_length == 1024
    assert described.size_bytes == sum(path.stat().st_size for path in tiny_model.iterdir())


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "no model folder"),
        ({"config.json": "{}"}, "no model folder"),
        ({"config.json": "{}", "pytorch_model.bin": "x"}, "pickle"),
        ({"config.json": "{}", "model.safetensors": "x"}, "safetensors"),
        ({"config.json": "{}", "model.safetensors": "\xff" * 40}, "safetensors"),
    ],
)
def test_what_is_no_model_is_refused_with_the_reason(tmp_path: Path, files: dict[str, str], said: str) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(ModelError, match=said):
        identify(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="absent"):
        identify(tmp_path / "absent")
    with pytest.raises(ModelError, match="absent"):
        check_data_only(tmp_path / "absent")


@pytest.mark.parametrize(
    "name",
    [
        "pytorch_model.bin", "model.pt", "model.pth", "weights.pkl", "optimizer.ckpt", "modeling.py", "sub/evil.py",
        "lib.so", "training_args.bin", "x.npy", "model.h5", "x.keras", "a.pyc", "run.sh", "archive.zip",
        "openvino_model.bin",
    ],
)  # fmt: skip
def test_anything_but_data_is_refused_by_name(tiny_model: Path, tmp_path: Path, name: str) -> None:
    folder = copy(tiny_model, tmp_path / "m")
    check_data_only(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_bytes(b"\x80\x04x")
    with pytest.raises(ModelError, match=name.replace(".", r"\.")):
        check_data_only(folder)


@pytest.mark.parametrize("name", ["README.md", "LICENSE", "LICENSE.txt", "NOTICE", ".gitattributes", ".git/hooks/x.py"])
def test_what_comes_with_a_model_is_not_refused(tiny_model: Path, tmp_path: Path, name: str) -> None:
    folder = copy(tiny_model, tmp_path / "m")
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("x")
    check_data_only(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", {"auto_map": {"AutoModelForCausalLM": "modeling.Evil"}}),
        ("config.json", {"text_config": {"auto_map": {"AutoConfig": "x.Y"}}}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["x.Y", None]}}),
        ("genai_config.json", {"model": {"decoder": {"session_options": {"custom_ops_library": "x.so"}}}}),
    ],
)
def test_a_configuration_that_asks_for_code_is_refused(
    tiny_model: Path, tmp_path: Path, name: str, content: dict[str, object]
) -> None:
    folder = copy(tiny_model, tmp_path / "m")
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(ModelError, match="run code"):
        check_data_only(folder)


def test_a_model_that_cannot_fit_is_refused_with_figures(tiny_model: Path, tmp_path: Path) -> None:
    model = identify(tiny_model)
    need = 4 * (describe(tiny_model).parameters or 0)
    assert fits(model, need) == need
    with pytest.raises(ResourceError, match=r"need 0 MB of memory; 0 MB are free"):
        fits(model, need - 1)
    tuned = identify(adapter(tiny_model, tmp_path / "tuned"))
    assert fits(tuned) == need + 4 * 32


def test_half_precision_weights_need_the_memory_of_fp32(tiny_model: Path, tmp_path: Path) -> None:
    folder = copy(tiny_model, tmp_path / "m")
    need = fits(identify(folder))
    weights = {name: values.astype(np.float16) for name, values in load_file(folder / "model.safetensors").items()}
    save_file(weights, str(folder / "model.safetensors"))
    assert fits(identify(folder)) == need


def test_memory_is_judged_before_anything_is_loaded(tmp_path: Path) -> None:
    # A header that claims more weights than any machine has: only the header is read.
    rows = psutil.virtual_memory().total // 1024
    header = json.dumps({"w": {"dtype": "F16", "shape": [rows, 1024], "data_offsets": [0, rows * 2048]}}).encode()
    (tmp_path / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "max_position_embeddings": 10}')
    with pytest.raises(ResourceError, match="MB of memory"):
        fits(identify(tmp_path))
