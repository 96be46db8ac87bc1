"""A folder for vLLM or TGI is whole and read as we read it, or it is refused with what is wrong."""

import json
import shutil
from pathlib import Path

import pytest

from vivace.engines.launch import check_folder, collect
from vivace.errors import ModelError


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_model, tmp_path / "model")
    return tmp_path / "model"


def change(path: Path, **values: object) -> None:
    found = json.loads(path.read_text())
    path.write_text(json.dumps({k: v for k, v in (found | values).items() if v is not None}))


@pytest.mark.slow
def test_what_a_server_reads_is_collected_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    (folder / "optimizer.safetensors.json").write_text("{}")
    (folder / "README.md").write_text("hello")
    (folder / "generation_config.json").unlink()
    checked = collect(folder, tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {
        "config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json",
        "special_tokens_map.json", "chat_template.jinja",
    }  # fmt: skip
    assert json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"] == [2]
    assert checked.architecture == "LlamaForCausalLM"
    assert any("same tokens in transformers" in line for line in checked.done)
    with pytest.raises(ModelError, match="is there already"):
        collect(folder, tmp_path / "out")


def test_a_file_that_was_cut_off_is_found_and_nothing_is_left_behind(folder: Path, tmp_path: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match="Was it cut off"):
        collect(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "out.part").exists()


def test_a_header_that_lies_about_sizes_is_found(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    name = next(name for name in header if name != "__metadata__")
    header[name]["shape"] = [1, *header[name]["shape"][1:]]
    new = json.dumps(header).encode()
    weights.write_bytes(len(new).to_bytes(8, "little") + new + data[8 + length :])
    with pytest.raises(ModelError, match=f"The tensor {name} .* its shape needs"):
        check_folder(folder)
    weights.write_bytes(b"\xff" * 8 + data[8:])
    with pytest.raises(ModelError, match="cut off or no safetensors"):
        check_folder(folder)


def test_an_index_that_points_elsewhere_is_found(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "model-00002-of-00002.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelError, match="model.norm.weight is in model-00002"):
        check_folder(folder)


def test_code_and_missing_parts_are_refused(folder: Path) -> None:
    change(folder / "config.json", architectures=[])
    with pytest.raises(ModelError, match="names no architecture"):
        check_folder(folder)
    change(folder / "config.json", architectures=["LlamaForCausalLM"], auto_map={"AutoModel": "evil.Model"})
    with pytest.raises(ModelError, match="auto_map|code"):
        check_folder(folder)
    change(folder / "config.json", auto_map=None)
    (folder / "chat_template.jinja").unlink()
    with pytest.raises(ModelError, match="no chat template"):
        check_folder(folder)


@pytest.mark.slow
def test_a_tokenizer_that_transformers_reads_otherwise_is_refused(folder: Path) -> None:
    # transformers puts a beginning-of-text token before everything where its settings say so.
    (folder / "chat_template.jinja").write_text(
        "{{ bos_token }}{% for message in messages %}{{ message['content'] }}{% endfor %}"
    )
    change(folder / "tokenizer_config.json", bos_token="<|endoftext|>")
    change(folder / "special_tokens_map.json", bos_token="<|im_start|>")
    with pytest.raises(ModelError, match="other tokens in transformers than here, from token 0"):
        check_folder(folder)
