"""Folders appear whole or not at all."""

import json
import shutil
from pathlib import Path

import pytest

from vivace.compress.folder import furnish, read_config, whole_folder
from vivace.errors import ModelError
from vivace.models import ChatTokenizer


def test_a_block_that_ends_well_leaves_the_folder(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.txt").write_text("old")
    with whole_folder(out) as aside:
        (aside / "new.txt").write_text("new")
        assert (out / "old.txt").exists()
    assert [path.name for path in out.iterdir()] == ["new.txt"]


def test_a_block_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def half() -> None:
        with whole_folder(out) as aside:
            (aside / "config.json").write_text("{}")
            raise InterruptedError

    with pytest.raises(InterruptedError):
        half()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_cleared(tmp_path: Path) -> None:
    (tmp_path / ".out.partial").mkdir()
    (tmp_path / ".out.partial" / "torn.xml").write_text("<")
    with whole_folder(tmp_path / "out") as aside:
        assert list(aside.iterdir()) == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_folder_with_code_never_appears(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"odd\.py"), whole_folder(tmp_path / "out") as aside:
        (aside / "odd.py").write_text("")
    assert list(tmp_path.iterdir()) == []


def test_ends_come_from_wherever_the_model_names_them(tiny_model: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(tiny_model, source)
    out.mkdir()
    (source / "generation_config.json").unlink()
    config = read_config(source)
    del config["eos_token_id"]
    (source / "config.json").write_text(json.dumps(config))
    furnish(out, source, config | {"_name_or_path": "/somewhere", "quantization_config": {"quant_method": "gguf"}})
    # Only tokenizer_config.json names <|im_end|> now.
    assert json.loads((out / "generation_config.json").read_bytes()) == {"eos_token_id": [2]}
    assert ChatTokenizer.open(out).eos_ids == {2}
    assert not {"_name_or_path", "quantization_config"} & set(read_config(out))


def test_a_model_without_an_end_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    shutil.copytree(tiny_model, source)
    out.mkdir()
    for name in ("generation_config.json", "tokenizer_config.json", "special_tokens_map.json"):
        (source / name).unlink()
    config = {key: value for key, value in read_config(source).items() if key != "eos_token_id"}
    (source / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="does not say which token ends an answer"):
        furnish(out, source, config)


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_broken_configuration_is_one_sentence(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ModelError, match=r"config\.json"):
        read_config(tmp_path)


def test_a_missing_configuration_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has no config"):
        read_config(tmp_path)
