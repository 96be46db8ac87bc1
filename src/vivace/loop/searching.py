"""The search for training settings in the loop: try, train the best and the default in full, take what is better."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vivace.config.distill import DistillSettings
from vivace.config.train import PreferenceSettings, TrainSettings
from vivace.domain import Artifact, Model, Progress, Workspace
from vivace.loop import stages
from vivace.loop.against import compare_settings, kept
from vivace.loop.project import Project, open_project, table
from vivace.loop.search_page import write_pages


def search_project(start: Path, progress: Progress, *, changes: Iterable[str] = ()) -> dict[str, Any]:
    """Run the loop up to a search (by TPE where the settings name no method) and return what it came to."""
    from vivace.loop.run import run
    from vivace.loop.trainings import note_trainings

    with open_project(start, progress, changes=changes) as project:
        settings = project.settings.train
        if settings.search.method == "none":
            settings = settings.model_copy(update={"search": settings.search.model_copy(update={"method": "tpe"})})
        check_space(settings)
        dataset = run(project, "data").dataset
        assert dataset is not None
        base = stages.base_model(project)
        found = search(project, dataset, base, settings)
        verdict = judge(project, dataset, base, settings, found)
        note_trainings(project)
    return {**read_search(found), **verdict, "sentence": sentence(verdict), "report": str(found.path / "search.html")}


def check_space(settings: TrainSettings) -> None:
    """Raise `ConfigError` for a space that cannot be searched, before any work is done."""
    from vivace.train.search.space import read_space

    if settings.search.method != "none":
        read_space(settings)


def chosen_settings(project: Project, dataset: Artifact, base: Model) -> TrainSettings:
    """Return the settings to train with: the project's own, unless its search found better ones."""
    settings = project.settings.train
    if settings.search.method == "none":
        return settings
    found = search(project, dataset, base, settings)
    verdict = judge(project, dataset, base, settings, found)
    project.progress.say(sentence(verdict))
    return with_winner(settings, verdict["winner"]) if verdict["better"] else settings


def search(project: Project, dataset: Artifact, base: Model, settings: TrainSettings) -> Artifact:
    """Run the trials, or return those of an earlier search of the same kind."""
    system = project.settings.project.system
    # What comes later decides nothing, nor what the rows were chosen by.
    settings = settings.model_copy(
        update={"preference": PreferenceSettings(), "replay": stages.REPLAY, "distill": DistillSettings()}
    )

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.train.search.trials import search as try_settings

        facts = try_settings(dataset.path / "examples.jsonl", base, system, settings, workspace)
        write_pages(workspace.out)
        return facts

    return kept(
        project,
        "search",
        project.store.run(
            "search",
            work,
            kind="report",
            settings={
                key: value for key, value in table(settings).items() if key not in ("workers", "replay", "distill")
            }
            | {"system": system},
            parents={"dataset": dataset.id, "base": project.digest(base.path)},
            progress=project.progress,
        ),
    )


def judge(project: Project, dataset: Artifact, base: Model, settings: TrainSettings, found: Artifact) -> dict[str, Any]:
    """Train the winner and the default settings in full and compare them; both runs stay in the store."""
    from vivace.train.search.trials import winner

    changes = winner(read_search(found))
    if not changes:
        return {"winner": {}, "better": False}
    names = ("the default settings", "the best settings found")
    best = with_winner(settings, changes)
    return compare_settings(project, dataset, base, settings, best, names=names) | {"winner": changes}


def with_winner(settings: TrainSettings, changes: dict[str, Any]) -> TrainSettings:
    """Return the settings with the winner's laid over them."""
    from vivace.train.search.space import trial_settings

    return trial_settings(settings, changes)


def read_search(found: Artifact) -> dict[str, Any]:
    """Return a search's `search.json`."""
    result: dict[str, Any] = json.loads((found.path / "search.json").read_bytes())
    return result


def sentence(verdict: dict[str, Any]) -> str:
    """Say whether the winner of a search beat the default settings."""
    if not verdict["winner"]:
        return "The search found nothing better than the default settings."
    told = ", ".join(f"{name} = {_plain(value)}" for name, value in verdict["winner"].items())
    figure = f"{verdict['gain']:+.3f} [{verdict['low']:+.3f}, {verdict['high']:+.3f}] nats per token"
    where = f"on {verdict['examples']:,} validation conversations"
    if not verdict["unseen"]:
        where += " that also chose it, so the figure flatters it"
    if verdict["better"]:
        return f"Better than the default settings by {figure} {where}: {told}."
    return f"The search did not beat the default settings: {figure} {where} with {told}."


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
