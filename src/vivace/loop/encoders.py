"""Encoders in the loop: the classifier of intents and the reward model, each a stage of its own beside the chatbot."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vivace.config.intent import EncoderSettings
from vivace.domain import Artifact, Model, Progress, Workspace
from vivace.loop.project import Project, open_project, table
from vivace.store.artifacts import Outcome


def train_intents(start: Path, progress: Progress, *, changes: Iterable[str] = ()) -> dict[str, Any]:
    """Run the loop up to the classifier of intents and return its facts, `id` and `folder`."""
    with open_project(start, progress, changes=changes) as project:
        return _told(project, intents(project, _dataset(project)))


def train_reward(start: Path, progress: Progress, *, changes: Iterable[str] = ()) -> dict[str, Any]:
    """Run the loop up to the reward model and return its facts, `id` and `folder`."""
    with open_project(start, progress, changes=changes) as project:
        return _told(project, reward(project, _dataset(project)))


def intents(project: Project, dataset: Artifact) -> Outcome:
    """Teach an encoder the dataset's intents."""
    settings, field = project.settings.train.intent, project.settings.data.label.intent_field
    encoder = _encoder(project, settings)

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.train.intents.teach import teach_intents

        return teach_intents(dataset.path, field, encoder, settings, workspace)

    return project.store.run(
        "intents",
        work,
        kind="model",
        settings=table(settings) | {"intent_field": field},
        parents={"dataset": dataset.id, "encoder": project.digest(encoder.path)},
        progress=project.progress,
    )


def reward(project: Project, dataset: Artifact) -> Outcome:
    """Teach an encoder which answers people like."""
    settings = project.settings.train.reward
    encoder = _encoder(project, settings)

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.train.preferences.reward import train_reward as learn

        return learn(dataset.path, encoder, settings, workspace)

    return project.store.run(
        "reward",
        work,
        kind="model",
        settings=table(settings),
        parents={"dataset": dataset.id, "encoder": project.digest(encoder.path)},
        progress=project.progress,
    )


def _dataset(project: Project) -> Artifact:
    from vivace.loop.run import run

    dataset = run(project, "data").dataset
    assert dataset is not None
    return dataset


def _encoder(project: Project, settings: EncoderSettings) -> Model:
    from vivace.models import resolve

    return resolve(settings.encoder, settings.revision, progress=project.progress, root=project.root)


def _told(project: Project, outcome: Outcome) -> dict[str, Any]:
    made = outcome.artifact
    name = made.origin.stage
    took = "unchanged" if outcome.reused else f"{made.origin.seconds:,.0f} s"
    project.progress.say(f"✓ {name} ({took})")
    return {"id": made.id, "folder": str(made.path / "model"), "reused": outcome.reused, **made.facts}
