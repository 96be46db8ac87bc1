"""The user's tasks are checked before anything runs, and nothing is downloaded."""

from pathlib import Path

import pytest

from vivace.errors import ConfigError, DataError, ResourceError
from vivace.evaluate.general import tasks
from vivace.evaluate.general.tasks import find_tasks

CHOICES = """task: colors
dataset_path: json
dataset_kwargs: {data_files: {test: colors.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: "{{c}}"
doc_to_target: t
metric_list: [{metric: acc}]
"""
ROWS = '{"q": "sky?", "c": ["blue", "red"], "t": 0}\n{"q": "grass?", "c": ["green", "red"], "t": 0}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "colors.yaml").write_text(CHOICES)
    (tmp_path / "tasks" / "colors.jsonl").write_text(ROWS)
    return tmp_path


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "tasks" / "colors.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def test_a_folder_of_tasks_is_found_with_its_data(folder: Path) -> None:
    (found,) = find_tasks(["tasks"], folder)
    assert found.name == "colors"
    assert found.config["dataset_kwargs"]["data_files"] == {"test": [str(folder / "tasks" / "colors.jsonl")]}
    assert found.files == (folder / "tasks" / "colors.yaml", folder / "tasks" / "colors.jsonl")
    assert find_tasks(["tasks/colors.yaml"], folder)[0].name == "colors"
    assert find_tasks([], folder) == []


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("dataset_path: json", "dataset_path: cais/mmlu", "takes its data from 'cais/mmlu', which is no file here"),
        ("{metric: acc}", "{metric: bleu, hf_evaluate: true}", "takes its metric 'bleu' from a hub"),
        ("multiple_choice", "generate_image", "output_type 'generate_image'"),
        ("task: colors", "group: colors", "is a group of tasks"),
        ("task: colors", "task: [colors", "cannot be read as a task"),
    ],
)
def test_what_needs_a_hub_or_is_no_task_is_refused_in_a_sentence(folder: Path, old: str, new: str, told: str) -> None:
    change(folder, old, new)
    with pytest.raises(ConfigError, match=told):
        find_tasks(["tasks"], folder)


def test_a_file_that_is_not_there_is_named(folder: Path) -> None:
    (folder / "tasks" / "colors.jsonl").unlink()
    with pytest.raises(DataError, match=r"reads colors\.jsonl, which is neither"):
        find_tasks(["tasks"], folder)
    with pytest.raises(ConfigError, match="nowhere, named in .* does not exist"):
        find_tasks(["nowhere"], folder)
    (folder / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"holds no \.yaml file"):
        find_tasks(["empty"], folder)


def test_two_tasks_of_one_name_are_refused(folder: Path) -> None:
    (folder / "tasks" / "more.yaml").write_text(CHOICES)
    with pytest.raises(ConfigError, match="Two files .* 'colors'"):
        find_tasks(["tasks"], folder)


def test_without_lm_eval_it_is_said_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "find_spec", lambda _name: None)
    with pytest.raises(ResourceError, match="pip install 'lm_eval==0.4.13'"):
        find_tasks(["tasks"], folder)
