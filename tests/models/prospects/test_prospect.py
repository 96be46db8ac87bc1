"""What is known of a model before any of it is loaded or downloaded."""

import json
import shutil
from pathlib import Path

import pytest

from vivace.models.prospects.prospect import counted_parameters, misfit, prospect


def faked(tiny_model: Path, folder: Path, **config: object) -> Path:
    """A copy of the tiny model whose configuration says something else."""
    shutil.copytree(tiny_model, folder)
    told = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(told))
    return folder


def test_a_folder_is_described_from_its_headers(tiny_model: Path) -> None:
    found = prospect(str(tiny_model))
    assert found.problem == ""
    assert (found.architecture, found.parameters, found.context_length) == ("LlamaForCausalLM", 106_816, 1024)
    assert found.has_template
    assert found.path == tiny_model
    assert found.commercial == "unknown"


def test_the_configuration_alone_tells_how_many_weights_there_are(tiny_model: Path) -> None:
    assert counted_parameters(json.loads((tiny_model / "config.json").read_text())) == 106_816
    assert counted_parameters({"model_type": "strange"}) is None


def test_a_model_of_a_hundred_thousand_layers_does_not_fit_and_that_is_known_at_once(
    tiny_model: Path, tmp_path: Path
) -> None:
    folder = faked(tiny_model, tmp_path / "huge", num_hidden_layers=4_000_000, hidden_size=512, intermediate_size=4096)
    found = prospect(str(folder))
    assert found.parameters is not None
    assert found.parameters > 10**13
    need = found.serving_bytes(1.0)
    reason = misfit(found, serving_bytes=need, making_bytes=need, disk_bytes=0, folder=tmp_path)
    assert "of memory to be served" in reason


def test_each_limit_is_told_by_its_name(tiny_model: Path, tmp_path: Path) -> None:
    found = prospect(str(tiny_model))
    assert misfit(found, serving_bytes=1, making_bytes=1, disk_bytes=1, folder=tmp_path) == ""
    told = misfit(found, serving_bytes=1, making_bytes=10**15, disk_bytes=1, folder=tmp_path)
    assert "to be converted" in told
    assert "on disk" in misfit(found, serving_bytes=1, making_bytes=1, disk_bytes=10**16, folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("smollm2-135m-instuct", "Did you mean 'smollm2-135m-instruct'?"),
        ("./nowhere", "There is no model folder"),
        ("owner/no-such-model", "cannot be looked up on the hub"),
    ],
)
def test_a_name_that_leads_nowhere_is_a_problem_not_a_crash(name: str, told: str) -> None:
    assert told in prospect(name).problem


def test_a_known_model_is_described_without_its_files(tmp_path: Path) -> None:
    found = prospect("smollm2-135m-instruct", cache=tmp_path)
    assert found.path is None
    assert (found.parameters, found.license, found.commercial) == (134_515_008, "Apache-2.0", "yes")
    assert found.download_bytes == 98_362_432
    assert not list(tmp_path.iterdir())


def test_a_folder_with_code_is_a_problem(tiny_model: Path, tmp_path: Path) -> None:
    folder = faked(tiny_model, tmp_path / "code")
    (folder / "modeling.py").write_text("print('hello')")
    assert "could run code" in prospect(str(folder)).problem


def test_a_model_without_template_says_so(tiny_model: Path, tmp_path: Path) -> None:
    folder = faked(tiny_model, tmp_path / "plain")
    (folder / "chat_template.jinja").unlink()
    assert prospect(str(folder)).has_template is False
