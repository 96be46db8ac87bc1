"""A release is updated with new data through the command line: nothing twice, its origin named, forgetting told."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.shop import vivace
from tests.loop.tasks import make_tasks, write_task
from vivace.release import open_release

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project with a release of one task, and its update to another one."""
    project = make_tasks(tmp_path_factory.mktemp("released") / "shop", tiny_model, replay=0.5)
    vivace("run", str(project), "--quiet")
    write_task(project, "new")
    vivace("run", str(project), "--quiet", "--from", "current")
    return project


def releases(project: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(vivace("release", "list", str(project), "--json").stdout)
    return found


def test_the_updated_release_names_the_one_it_came_from(released: Path) -> None:
    new, old = releases(released)
    assert old["id"] in new["origin"]["parents"]
    assert old["id"] not in old["origin"]["parents"]
    folder = released / ".vivace" / "artifacts" / "release" / new["id"]
    assert old["id"] in open_release(folder).parents


def test_the_update_does_nothing_twice_whatever_the_release_is_called(released: Path) -> None:
    _new, old = releases(released)
    for name in ("current", old["id"][:12], "shop"):
        again = json.loads(vivace("run", str(released), "--json", "--from", name).stdout)
        assert again["worked"] == [], name
    assert len(releases(released)) == 2


def test_what_was_forgotten_is_told_at_the_end_and_shown_with_the_run(released: Path) -> None:
    told = vivace("train", str(released), "--quiet", "--from", "current").stdout
    shown = vivace("train", "show", "--project", str(released)).stdout
    for text in (told, shown):
        assert "held-out conversations of the old data" in " ".join(text.split())
        assert "it learned the new data" in " ".join(text.split())
    facts = json.loads(vivace("train", "show", "--project", str(released), "--json").stdout)["facts"]
    assert facts["forgetting"]["old"]["token_accuracy"][1] > 0.9
    assert facts["forgetting"]["before"] == facts["start"]


def test_without_from_the_loop_does_what_it_did(released: Path, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    shutil.copytree(released, project)
    (project / "new.jsonl").unlink()
    assert json.loads(vivace("run", str(project), "--json").stdout)["worked"] == []


def test_an_update_without_replay_warns(released: Path, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    shutil.copytree(released, project)
    told = vivace("train", str(project), "--quiet", "--from", "current", "--set", "train.replay=0").stdout
    assert "The update forgets" in told
    assert "Raise replay in [train] (now 0)" in " ".join(told.split())


def test_errors_are_told_in_a_sentence(released: Path, tmp_path: Path) -> None:
    unknown = vivace("run", str(released), "--from", "shopp", check=False)
    assert unknown.returncode == 5
    assert "Did you mean 'shop'?" in unknown.stderr
    changed = vivace("train", str(released), "--from", "current", "--set", "train.method=full", check=False)
    assert changed.returncode == 2
    assert "was trained with 'lora'" in " ".join(changed.stderr.split())
    project = tmp_path / "shop"
    shutil.copytree(released, project)
    for folder in project.glob(".vivace/artifacts/model/*"):
        if json.loads((folder / "manifest.json").read_text())["origin"]["stage"] == "train":
            shutil.rmtree(folder)
    gone = vivace("run", str(project), "--from", releases(project)[1]["id"][:10], check=False)
    assert gone.returncode == 5
    assert "no longer in the store" in " ".join(gone.stderr.split())


def test_settings_are_compared_in_one_command(released: Path) -> None:
    words = ("train", "against", "learning_rate=0.0001", "--project", str(released), "--set", "train.max_tokens=600")
    found = json.loads(vivace(*words, "--quiet", "--json").stdout)
    assert found["worse"]
    shown = vivace(*words, "--quiet").stdout
    assert "the project's settings" in shown
    assert "learning_rate = 0.0001 is worse: -" in shown
    same = vivace("train", "against", "learning_rate=0.01", "--project", str(released), check=False)
    assert same.returncode == 2
    assert "learning_rate is 0.01 already" in same.stderr
    wrong = vivace("train", "against", "lerning_rate=0.01", "--project", str(released), check=False)
    assert wrong.returncode == 2
    assert "Did you mean 'learning_rate'?" in wrong.stderr


def test_a_second_update_imports_nothing_heavy(released: Path) -> None:
    code = (
        "import sys; sys.argv = ['vivace', 'run', sys.argv[1], '--quiet', '--from', 'current']\n"
        "from vivace.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'polars', 'scipy', 'openvino', 'plotly'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code, str(released)], capture_output=True, text=True, check=True)
    assert "HEAVY []" in shown.stdout
