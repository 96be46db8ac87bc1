"""Training runs through the command line: listed, shown, compared, made again; settings searched and used."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.shop import make_project, vivace

pytestmark = pytest.mark.slow
SEARCH = ("--set", "train.search.trials=3", "--set", "train.search.tokens_per_trial=900")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project with two training runs."""
    project = make_project(tmp_path_factory.mktemp("trained") / "shop", tiny_model, train__max_tokens="3000")
    vivace("train", str(project), "--quiet")
    vivace("train", str(project), "--quiet", "--set", "train.learning_rate=0.02")
    return project


def runs(project: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(vivace("train", "list", str(project), "--json").stdout)
    return found


def test_runs_are_listed_newest_first_and_shown(trained: Path) -> None:
    found = runs(trained)
    assert [run["origin"]["settings"]["learning_rate"] for run in found] == [0.02, 0.01]
    listed = vivace("train", "list", str(trained)).stdout
    assert listed.index(found[0]["id"][:12]) < listed.index(found[1]["id"][:12])
    shown = vivace("train", "show", found[1]["id"][:8], "--project", str(trained)).stdout
    assert "learning_rate: 0.01" in shown
    assert f"dataset: {found[1]['facts']['dataset']}" in shown
    assert "python 3." in shown


def test_a_comparison_shows_what_differs_and_how_it_ended(trained: Path) -> None:
    ids = [run["id"][:12] for run in runs(trained)]
    found = json.loads(vivace("train", "compare", *ids, "--project", str(trained), "--json").stdout)
    assert found["runs"] == ids
    assert found["settings"] == {"learning_rate": [0.02, 0.01]}
    assert found["inputs"] == found["environment"] == {}
    best = [run["facts"]["best_validation_loss"] for run in runs(trained)]
    assert found["figures"]["best_validation_loss"] == best
    assert "learning rate" in vivace("train", "compare", *ids, "--project", str(trained)).stdout


def test_a_run_is_made_again_to_the_same_weights(trained: Path) -> None:
    oldest = runs(trained)[-1]["id"]
    done = json.loads(vivace("train", "rerun", oldest[:8], "--project", str(trained), "--json", "--quiet").stdout)
    assert done["run"] == oldest
    assert done["equal"]
    assert done["weights_equal"]
    assert done["environment"] == {}
    assert len(runs(trained)) == 2
    assert not list((trained / ".vivace" / "work").iterdir())


def test_a_run_whose_data_or_base_is_gone_is_not_made_again(trained: Path, tmp_path: Path, tiny_model: Path) -> None:
    project = tmp_path / "shop"
    shutil.copytree(trained, project)
    (rows,) = project.glob(".vivace/artifacts/dataset/*/files/examples.jsonl")
    rows.write_text(rows.read_text().replace("order", "Order"))
    failed = vivace("train", "rerun", "--project", str(project), check=False)
    assert failed.returncode == 5
    assert "is gone or changed, so the run cannot be reproduced" in failed.stderr
    shutil.rmtree(project / ".vivace")
    shutil.copytree(trained / ".vivace", project / ".vivace")
    other = tmp_path / "other"
    shutil.copytree(tiny_model, other)
    config = json.loads((other / "generation_config.json").read_text()) | {"top_k": 7}
    (other / "generation_config.json").write_text(json.dumps(config))
    words = ("--project", str(project), "--set", f"models.base={json.dumps(str(other))}")
    failed = vivace("train", "rerun", *words, check=False)
    assert failed.returncode == 2
    assert "started from another model" in failed.stderr


def test_a_run_that_is_not_there_is_told(trained: Path) -> None:
    failed = vivace("train", "show", "zzz", "--project", str(trained), check=False)
    assert failed.returncode == 5
    assert "There is no training run 'zzz'" in failed.stderr


def test_a_copied_project_without_its_ledger_still_lists_its_runs(trained: Path, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    shutil.copytree(trained, project, ignore=shutil.ignore_patterns("ledger.db", "runs.db"))
    assert [run["id"] for run in runs(project)] == [run["id"] for run in runs(trained)]


def test_mlflow_opens_the_notes_of_every_run(trained: Path) -> None:
    pytest.importorskip("mlflow")
    from mlflow.tracking import MlflowClient

    expected = {run["id"] for run in runs(trained)}
    client = MlflowClient(tracking_uri=f"sqlite:///{trained}/.vivace/runs.db")
    noted = client.search_runs([client.get_experiment_by_name("shop").experiment_id])
    assert {run.data.tags["vivace.artifact"] for run in noted} == expected
    assert {run.data.params["learning_rate"] for run in noted} == {"0.01", "0.02"}


def test_the_winner_of_a_search_is_used_only_if_it_is_better(trained: Path, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    shutil.copytree(trained, project)
    rates = (*SEARCH, "--set", 'train.search.method="grid"', "--set", "train.learning_rate=0.0001")
    good = (*rates, "--set", "train.search.space={learning_rate=[0.0001, 0.03]}")
    found = json.loads(vivace("train", "search", str(project), "--json", "--quiet", *good).stdout)
    assert found["better"]
    assert found["sentence"].startswith("Better than the default settings by +")
    assert found["winner"] == {"learning_rate": 0.03}
    assert Path(found["report"]).is_file()
    # Both full runs are there already, and training takes the winner's.
    result = json.loads(vivace("train", str(project), "--json", "--quiet", *good).stdout)
    assert result["worked"] == []
    assert result["trained"]["id"] == found["runs"][1]
    bad = (*rates, "--set", "train.search.space={learning_rate=[0.0001, 0.000001]}")
    result = json.loads(vivace("train", str(project), "--json", "--quiet", *bad).stdout)
    assert result["trained"]["id"] == found["runs"][0]
    assert "Trials (grid" in vivace("train", "search", str(project), "--quiet", *good).stdout


def test_a_wrong_space_is_told_before_anything_is_trained(trained: Path) -> None:
    words = ("--set", "train.search.space={learning_rat=[1.0]}")
    failed = vivace("train", "search", str(trained), "--quiet", *words, check=False)
    assert failed.returncode == 2
    assert "Did you mean 'learning_rate'?" in failed.stderr
