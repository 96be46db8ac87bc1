"""What training will take is told without training, and what a run took tells more the next time."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.journeys.shop import make_project
from tests.train.material import Watcher
from vivace.cli.train import app
from vivace.errors import ConfigError
from vivace.loop.estimating import estimate_training
from vivace.loop.project import open_project
from vivace.loop.run import run
from vivace.loop.trainings import find_training


@pytest.mark.slow
def test_an_estimate_is_told_without_training_and_the_run_keeps_its_cost(tmp_path: Path, tiny_model: Path) -> None:
    price, tokens = "train.price_per_hour=3600", "train.max_tokens=1500"
    project = make_project(tmp_path / "shop", tiny_model, conversations=40)
    before = estimate_training(project, Watcher(), changes=[price, tokens])
    assert before["sentence"].startswith(f"Training: {before['tokens']:,} tokens in {before['steps']:,} steps, about ")
    assert "timed on this machine" in before["sentence"]
    assert before["cost"] == pytest.approx(before["seconds"], rel=1e-3)
    assert before["fits"]
    assert list(project.glob(".vivace/artifacts/dataset/*"))
    assert not list(project.glob(".vivace/artifacts/model/*"))

    watcher = Watcher()
    with open_project(project, watcher, changes=[price, tokens]) as opened:
        facts = run(opened, "train").trained.facts  # type: ignore[union-attr]
    assert any(text.startswith("Training: ") for text in watcher.said)
    assert (facts["tokens"], facts["flops"]) == (before["tokens"], before["flops"])
    assert facts["cost"] > 0
    assert 0 < facts["flops_utilization"] < 1
    assert find_training(project).facts["cost"] == facts["cost"]

    # The price decides nothing: nothing is trained again. The next estimate knows how fast the run was.
    with open_project(project, Watcher(), changes=["train.price_per_hour=7", tokens]) as opened:
        assert run(opened, "train").worked == []
    asked = CliRunner().invoke(app, [str(project), "--estimate", "--json", "--quiet", "--set", "train.max_tokens=5000"])
    told = json.loads(asked.stdout)
    assert told["rate_from"] == "as fast as 1 earlier run"
    assert before["tokens"] < told["tokens"] <= 5000
    other = estimate_training(project, Watcher(), changes=['train.method="full"', tokens])
    assert other["rate_from"] == "timed on this machine"


def test_an_estimate_says_what_it_leaves_out(tmp_path: Path) -> None:
    from vivace.config.train import PreferenceSettings, SearchSettings, TrainSettings
    from vivace.loop.estimating import _not_counted

    assert _not_counted(TrainSettings()) == ""
    both = TrainSettings(search=SearchSettings(method="tpe"), preference=PreferenceSettings(method="kto"))
    assert _not_counted(both) == (
        "Not counted: the search for settings before it and learning from preferences after it."
    )


def test_an_estimate_of_an_update_is_refused(tmp_path: Path) -> None:
    failed = CliRunner().invoke(app, [str(tmp_path), "--estimate", "--from", "current"])
    assert isinstance(failed.exception, ConfigError)
    assert "not an update" in str(failed.exception)
