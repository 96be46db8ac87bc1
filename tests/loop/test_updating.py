"""An update goes on from a model with what is new, replays what was old, and tells what was forgotten."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.loop.tasks import make_tasks, write_task
from tests.tiny import build_tiny_model
from vivace.domain import Candidate, Model, Scorecard, SilentProgress, Workspace
from vivace.errors import ConfigError, DataError, StoreError
from vivace.loop.project import Project, open_project
from vivace.loop.run import Result, run
from vivace.loop.trainings import find_training, rerun
from vivace.loop.updating import find_start, forgetting_sentence
from vivace.release import write_release
from vivace.store import read_examples


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> tuple[Path, Result]:
    """A project that has learned one task, and has data of another one now."""
    project = make_tasks(tmp_path_factory.mktemp("update") / "shop", tiny_model)
    result = train(project)
    write_task(project, "new")
    return project, result


@pytest.fixture
def shop(first: tuple[Path, Result], tmp_path: Path) -> tuple[Path, str]:
    """A copy of that project, and the run to go on from."""
    shutil.copytree(first[0], tmp_path / "shop")
    assert first[1].trained is not None
    return tmp_path / "shop", first[1].trained.id[:10]


def train(project: Path, origin: str = "", **changes: Any) -> Result:
    told = [f"train.{name}={json.dumps(value)}" for name, value in changes.items()]
    with open_project(project, SilentProgress(), changes=told) as opened:
        return run(opened, "train", origin)


def forgotten(result: Result) -> dict[str, Any]:
    assert result.forgetting is not None
    return result.forgetting.facts


def test_replay_keeps_what_an_update_without_it_forgets(shop: tuple[Path, str]) -> None:
    project, origin = shop
    without, half = (forgotten(train(project, origin, replay=replay)) for replay in (0.0, 0.5))
    assert without["forgets"]
    assert without["old"]["gain"] < 5 * half["old"]["gain"] - 0.5
    assert without["old"]["token_accuracy"][1] < 0.6 < 0.95 < half["old"]["token_accuracy"][1]
    assert "Raise replay in [train] (now 0)" in without["sentence"]
    for found in (without, half):  # what is new was learned either way
        assert found["new"]["better"]
        assert found["new"]["token_accuracy"][1] > 0.9
        assert found["new"]["examples"] == found["old"]["examples"] == 15


@pytest.mark.slow
def test_a_lower_learning_rate_forgets_less_and_learns_less(shop: tuple[Path, str]) -> None:
    project, origin = shop
    high, low = (forgotten(train(project, origin, replay=0.0, learning_rate=rate)) for rate in (1e-2, 1e-3))
    assert 0 < -low["old"]["gain"] < -high["old"]["gain"] / 10
    assert 0 < low["new"]["gain"] < high["new"]["gain"]


def test_only_what_is_new_is_learned_with_the_share_that_replay_asks_for(shop: tuple[Path, str]) -> None:
    project, origin = shop
    result = train(project, origin, replay=0.2)
    assert result.dataset is not None
    assert [result.dataset.facts[name] for name in ("new", "replayed", "train")] == [25, 6, 31]
    rows = list(read_examples(result.dataset.path / "examples.jsonl"))
    assert sum(row.id.startswith("old") for row in rows if row.split == "train") == 6
    assert {row.id[:3] for row in rows if row.split == "test"} == {"old", "new"}


@pytest.mark.slow
def test_a_second_run_does_nothing_and_training_afresh_is_as_before(
    shop: tuple[Path, str], first: tuple[Path, Result]
) -> None:
    project, origin = shop
    made = train(project, origin)
    assert made.worked == ["data", "update", "train", "forgetting"]
    again = train(project, origin)
    assert again.worked == []
    assert again.trained == made.trained
    (project / "new.jsonl").unlink()
    afresh = train(project)
    assert afresh.worked == []
    assert afresh.trained is not None
    assert first[1].trained is not None
    assert afresh.trained.id == first[1].trained.id
    assert train(project, replay=0.9).worked == []


@pytest.mark.slow
def test_an_updated_run_is_shown_with_what_it_forgot_and_can_be_made_again(shop: tuple[Path, str]) -> None:
    project, origin = shop
    made = train(project, origin)
    assert made.trained is not None
    shown = find_training(project, made.trained.id)
    assert shown.facts["forgetting"]["sentence"] == forgotten(made)["sentence"]
    assert "forgetting" not in find_training(project, origin).facts
    assert rerun(project, made.trained.id, SilentProgress())["weights_equal"]


@pytest.mark.slow
def test_an_update_of_an_update_replays_from_all_that_was_learned(shop: tuple[Path, str]) -> None:
    project, origin = shop
    second = train(project, origin, replay=0.2)
    assert second.trained is not None
    write_task(project, "third", answer="Room service is open around the clock.")
    third = train(project, second.trained.id, replay=0.5)
    assert third.dataset is not None
    replayed = [row.id for row in read_examples(third.dataset.path / "examples.jsonl", "train")]
    assert [sum(name.startswith(task) for name in replayed) for task in ("third", "old", "new")] == [25, 13, 12]
    assert 16 <= forgotten(third)["old"]["examples"] < 30


@pytest.mark.slow
def test_a_full_model_is_updated_too(tmp_path: Path, tiny_model: Path) -> None:
    project = make_tasks(tmp_path / "shop", tiny_model, method="full", learning_rate=1e-3)
    before = train(project)
    assert before.trained is not None
    write_task(project, "new")
    after = train(project, before.trained.id)
    assert after.trained is not None
    assert forgotten(after)["new"]["better"]
    told = after.trained.facts["validation_loss_before"], after.trained.facts["start"]
    assert told[0] < before.trained.facts["validation_loss_before"]
    assert told[1] == before.trained.id


@pytest.mark.slow
def test_what_a_search_chose_stays_as_it_was(shop: tuple[Path, str]) -> None:
    project, _origin = shop
    (project / "new.jsonl").rename(project / "new.away")
    wide = train(project, lora_r=8)
    (project / "new.away").rename(project / "new.jsonl")
    assert wide.trained is not None
    space = {"search.method": "grid", "search.space": {"lora_r": [4, 8]}}
    told = [f"train.{name}={json.dumps(value)}" for name, value in space.items() if name != "search.space"]
    with open_project(project, SilentProgress(), changes=[*told, "train.search.space={lora_r=[4,8]}"]) as opened:
        updated = run(opened, "train", wide.trained.id)
    assert updated.trained is not None
    assert updated.trained.origin.settings["lora_r"] == 8
    assert "search" not in updated.worked


def test_an_unknown_name_is_told_before_any_work(shop: tuple[Path, str]) -> None:
    project, _origin = shop
    with pytest.raises(StoreError, match="no release or training run 'zzz'"):
        train(project, "zzz")
    with pytest.raises(StoreError, match="no release or training run 'current'") as error:
        train(project, "current")
    assert "vivace run" in error.value.hint


def test_another_base_is_refused(shop: tuple[Path, str], tmp_path: Path) -> None:
    project, origin = shop
    other = build_tiny_model(tmp_path / "other", seed=1)
    with (
        open_project(project, SilentProgress(), changes=[f"models.base={json.dumps(str(other))}"]) as opened,
        pytest.raises(ConfigError, match="was tuned from another model than"),
    ):
        run(opened, "train", origin)


@pytest.mark.parametrize(
    ("changes", "told"), [({"method": "full"}, "trained with 'lora'"), ({"lora_r": 2}, "lora_r in .train. is 2")]
)
def test_another_method_or_rank_is_refused_before_any_work(
    shop: tuple[Path, str], changes: dict[str, Any], told: str
) -> None:
    project, origin = shop
    (project / "broken.jsonl").write_text("no data")
    with pytest.raises(ConfigError, match=told):
        train(project, origin, **changes)


def test_a_model_or_dataset_that_is_gone_is_told_with_what_to_do(shop: tuple[Path, str]) -> None:
    project, origin = shop
    (dataset,) = project.glob(".vivace/artifacts/dataset/*")
    dataset.rename(project / "away")
    with pytest.raises(StoreError, match="dataset of run .* is no longer in the store") as error:
        train(project, origin)
    assert "Copy its folder back" in error.value.hint
    (project / "away").rename(dataset)
    (model,) = project.glob(f".vivace/artifacts/model/{origin}*")
    shutil.rmtree(model)
    with pytest.raises(StoreError, match="model of run .* is no longer in the store") as error:
        train(project, origin)
    assert "vivace run" in error.value.hint


def test_without_anything_new_there_is_nothing_to_go_on_with(shop: tuple[Path, str]) -> None:
    project, origin = shop
    (project / "new.jsonl").unlink()
    with pytest.raises(DataError, match="did not learn before"):
        train(project, origin)


def test_the_sentence_says_only_what_was_shown() -> None:
    def figures(gain: float, low: float, high: float, examples: int = 40) -> dict[str, Any]:
        better = low > 0
        return {"gain": gain, "low": low, "high": high, "better": better, "examples": examples,
                "token_accuracy": [0.5, 0.4]}  # fmt: skip

    worse, noise, better = figures(-0.2, -0.3, -0.1), figures(-0.2, -0.5, 0.1), figures(0.2, 0.1, 0.3)
    told = forgetting_sentence({"old": worse, "new": better, "forgets": True}, 0.3)
    assert told.startswith("The update forgets: the loss changes by +0.200 [+0.100, +0.300] nats per token")
    assert "Raise replay in [train] (now 0.3)" in told
    assert "it learned the new data" in told
    told = forgetting_sentence({"old": noise, "new": noise, "forgets": False}, 0.3)
    assert told.startswith("No forgetting is shown: ")
    assert "it is not better on the new data" in told
    told = forgetting_sentence({"old": figures(0.2, 0.1, 0.3, 5), "new": None, "forgets": False}, 0.3)
    assert "better on the old data, too" in told
    assert "Few conversations" in told
    assert "cannot be told" in forgetting_sentence({"old": None, "new": better, "forgets": False}, 0.3)


def make_release(project: Project, stage: str, *, role: str = "candidate", parent: str = "") -> Any:
    """Put a model made by `stage` and a release of it into the store; returns the model."""

    def model(workspace: Workspace) -> dict[str, Any]:
        (workspace.out / "model").mkdir()
        (workspace.out / "model" / "weights").write_text(stage)
        return {}

    def release(workspace: Workspace) -> dict[str, Any]:
        item = Candidate("one", "echo", Model("shop", made.path, "hf", "fp32", artifact_id=made.id), role=role)
        write_release(workspace.out, "shop", Scorecard(item, 1, ()), [], project.objective, "", (made.id,))
        return {"name": "shop", "candidate": "one"}

    keys: dict[str, Any] = {"settings": {}, "progress": project.progress}
    made = project.store.run(stage, model, kind="model", parents={"from": parent}, **keys).artifact
    project.store.run("release", release, kind="release", parents={"model": made.id}, **keys)
    return made


@pytest.mark.parametrize(
    ("stage", "role", "told"),
    [
        ("distill", "candidate", "is a student that learned from a teacher"),
        ("compress", "baseline", "is the untuned base"),
        ("compress", "candidate", "trained model of release .* is no longer in the store"),
    ],
)
def test_a_release_that_training_cannot_go_on_from_says_why(tmp_path: Path, stage: str, role: str, told: str) -> None:
    (tmp_path / "vivace.toml").write_text("")
    with open_project(tmp_path, SilentProgress()) as project:
        make_release(project, stage, role=role)
        for name in ("current", "shop", project.store.artifacts("release")[0].id[:8]):
            with pytest.raises(StoreError, match=told) as error:
                find_start(project, name)
            assert error.value.hint


def test_a_release_leads_to_its_training_through_what_lies_between(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text("")
    with open_project(tmp_path, SilentProgress()) as project:
        trained = make_release(project, "train")
        merged = make_release(project, "merge", parent=trained.id)
        make_release(project, "compress", parent=merged.id)
        with pytest.raises(StoreError, match=f"dataset of run {trained.short_id} is no longer in the store"):
            find_start(project, "current")
        with pytest.raises(StoreError, match="names 4 releases or training runs"):
            find_start(project, "")
