"""From a tuned model to a student that goes on to be compressed, through the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.journeys.shop import make_project, vivace
from tests.train.distillation.material import build_deep_model
from vivace.domain import SilentProgress
from vivace.errors import ConfigError
from vivace.loop.trainings import compare_trainings, list_trainings, rerun

pytestmark = pytest.mark.slow


def manifests(project: Path, stage: str) -> list[dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in project.glob(".vivace/artifacts/*/*/manifest.json")]
    return [manifest for manifest in found if manifest["origin"]["stage"] == stage]


def changes(**settings: str) -> list[str]:
    return [word for name, value in settings.items() for word in ("--set", f"train.distill.{name}={value}")]


def test_a_half_depth_student_of_the_tuned_model_is_what_is_compressed(tmp_path: Path) -> None:
    base = build_deep_model(tmp_path / "base")
    project = make_project(tmp_path / "shop", base)
    vivace("train", str(project))
    assert not manifests(project, "distill")
    how = changes(method="logits", layers="0.5", max_tokens="3000", learning_rate="0.003")
    told = json.loads(vivace("train", str(project), *how, "--json").stdout)
    assert told["worked"] == ["distill"]  # the teacher is not trained again
    (made,) = manifests(project, "distill")
    (teacher,) = manifests(project, "merge")
    (trained,) = manifests(project, "train")
    assert trained["id"] in teacher["origin"]["parents"]
    assert teacher["id"] in made["origin"]["parents"]
    facts = told["distilled"]["facts"]
    assert (facts["teacher_layers"], facts["student_layers"]) == (4, 2)
    assert facts["divergence_after"] < facts["divergence_before"]
    assert {run.origin.stage for run in list_trainings(project)} == {"train", "distill"}
    shown = vivace("train", "show", made["id"][:12], "--project", str(project)).stdout
    assert "teacher agreement after" in shown
    assert "distill.layers: 0.5" in shown
    compared = compare_trainings(project, [made["id"], trained["id"]])
    assert "best_validation_loss" in compared["figures"]
    with pytest.raises(ConfigError, match="is of the stage distill"):
        rerun(project, made["id"], SilentProgress())
    vivace("compress", str(project), *how)
    assert any(made["id"] in found["origin"]["parents"] for found in manifests(project, "compress"))
    assert json.loads(vivace("train", str(project), *how, "--json").stdout)["worked"] == []


def test_the_tuned_models_answers_are_learned_by_another_student(tmp_path: Path) -> None:
    project = make_project(tmp_path / "shop", build_deep_model(tmp_path / "base"))
    how = changes(method="answers", min_token_f1="0", max_answer_tokens="90", max_tokens="2000")
    told = json.loads(vivace("train", str(project), *how, "--json").stdout)
    assert told["worked"][-2:] == ["teach", "distill"]
    (taught,) = manifests(project, "teach")
    (made,) = manifests(project, "distill")
    assert taught["kind"] == "dataset"
    assert taught["id"] in made["origin"]["parents"]
    facts = taught["facts"]
    assert facts["accepted"] + sum(facts["refused"].values()) == facts["asked"]
    assert facts["train"] == facts["asked"] + facts["accepted"]
