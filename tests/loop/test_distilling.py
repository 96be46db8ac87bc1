"""Distillation in the loop: refused before any work, and invisible to every other stage."""

from pathlib import Path

import pytest

from vivace.config.train import TrainSettings
from vivace.domain import SilentProgress
from vivace.errors import ConfigError
from vivace.loop import stages
from vivace.loop.distilling import check
from vivace.loop.project import open_project, table
from vivace.loop.run import run


def test_what_cannot_be_taught_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text('[train]\npacking = true\n[train.distill]\nmethod = "gkd"\n')
    with (
        open_project(tmp_path, SilentProgress()) as project,
        pytest.raises(ConfigError, match="packing = true"),
    ):
        run(project, "train")


def test_learned_tokens_are_no_teacher() -> None:
    with pytest.raises(ConfigError, match="no model that could be teacher"):
        check(TrainSettings(method="prompt_tuning", distill={"method": "logits"}))
    check(TrainSettings(method="prompt_tuning", distill={"method": "logits", "teacher": "big", "student": "base"}))
    check(TrainSettings(method="prompt_tuning"))


def test_distillation_is_in_the_settings_of_no_stage_before_it() -> None:
    told = table(TrainSettings(distill={"method": "logits"}))
    assert "distill" in told
    assert {name for name in told if name not in stages.NO_MATTER} == {
        name for name in table(TrainSettings()) if name not in stages.NO_MATTER
    }
    assert "distill" in stages.NO_MATTER
