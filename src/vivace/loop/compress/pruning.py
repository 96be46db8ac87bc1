"""The stages that prune the tuned model and that say what pruning would cost."""

from typing import Any

from vivace.config.distill import DistillSettings
from vivace.config.prune import PruneSettings
from vivace.domain import Artifact, Model, Workspace
from vivace.loop import distilling
from vivace.loop.project import Project, table
from vivace.store.artifacts import Outcome
from vivace.store.files import write_atomic

HEALING = ("heal_tokens", "heal_learning_rate")


def prune(project: Project, merged: Model, dataset: Artifact, settings: PruneSettings) -> tuple[Model, bool]:
    """Leave out of a merged model what is asked for; tell whether that was there already."""

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.compress.prune.pruning import prune as remove

        return remove(
            merged,
            dataset.path,
            workspace.out,
            settings,
            system=project.settings.project.system,
            max_length=project.settings.train.max_length,
            scratch=workspace.scratch,
            progress=workspace.progress,
        )

    outcome = project.store.run(
        "prune",
        work,
        kind="model",
        settings={key: value for key, value in table(settings).items() if key not in HEALING} | _reading(project),
        parents=_parents(project, merged, dataset),
        progress=project.progress,
    )
    made = outcome.artifact
    return Model(merged.name, made.path, "hf", "fp32", artifact_id=made.id, license=merged.license), outcome.reused


def heal(
    project: Project, pruned: Model, merged: Model, dataset: Artifact, wanted: PruneSettings
) -> tuple[Model, bool]:
    """Let a pruned model learn from the whole one on the train split; tell whether that was there already."""
    settings = distilling.settings_of(project).model_copy(
        update={
            "distill": DistillSettings(
                method="logits",
                tuning="full",
                layers=1.0,
                max_tokens=wanted.heal_tokens,
                learning_rate=wanted.heal_learning_rate or project.settings.train.distill.learning_rate,
            )
        }
    )
    system = project.settings.project.system

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.train.distillation.distill import distill

        file = dataset.path / "examples.jsonl"
        return distill(file, pruned, merged, system, settings, workspace, project.root)

    outcome = project.store.run(
        "heal",
        work,
        kind="model",
        settings=distilling.key_of(settings) | {"system": system},
        parents=_parents(project, merged, dataset) | {"pruned": pruned.artifact_id},
        progress=project.progress,
    )
    made = outcome.artifact
    healed = Model(merged.name, made.path / "model", "hf", "fp32", artifact_id=made.id, license=merged.license)
    return healed, outcome.reused


def measure_sensitivity(project: Project, merged: Model, dataset: Artifact) -> Outcome:
    """Measure what each lever of pruning costs the domain by itself; the report's `sensitivity.json` is the table."""
    settings = project.settings.compress.prune

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.compress.prune.costs import TABLE, to_json
        from vivace.compress.prune.sensitivity import sensitivity

        rows = sensitivity(
            merged.path,
            dataset.path,
            settings,
            system=project.settings.project.system,
            max_length=project.settings.train.max_length,
            progress=workspace.progress,
        )
        write_atomic(workspace.out / TABLE, to_json(rows))
        return {"rows": len(rows), "levers": sorted({row.lever for row in rows})}

    # How much is pruned later, and what is done about it, does not change what pruning would cost.
    amounts = ("layers", "heads", "channels", "sparsity", "pattern", "correct", *HEALING)
    return project.store.run(
        "sensitivity",
        work,
        kind="report",
        settings={key: value for key, value in table(settings).items() if key not in amounts} | _reading(project),
        parents=_parents(project, merged, dataset),
        progress=project.progress,
    )


def _reading(project: Project) -> dict[str, Any]:
    """Return what besides the settings decides how conversations are read."""
    return {"system": project.settings.project.system, "max_length": project.settings.train.max_length}


def _parents(project: Project, merged: Model, dataset: Artifact) -> dict[str, str]:
    return {"model": merged.artifact_id or project.digest(merged.path), "dataset": dataset.id}
