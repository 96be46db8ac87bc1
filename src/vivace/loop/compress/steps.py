"""The way from the tuned model to what engines read: prune, heal, trim, export, each plan in this order."""

from collections.abc import Callable

from msgspec import Struct

from vivace.config.plan import FOR_GPU_SERVERS, Export, PlanSettings
from vivace.domain import Artifact, Candidate, Model
from vivace.loop import stages
from vivace.loop.compress import pruning, trimming
from vivace.loop.project import Project

Note = Callable[[str, bool], None]


class Step(Struct, frozen=True):
    """What a model is after one step of a plan; the first is `tuned`, the model as it was merged."""

    name: str
    model: Model


def carry_out(project: Project, plan: PlanSettings, merged: Model, dataset: Artifact, note: Note) -> list[Step]:
    """Carry out a plan's steps before exporting; `note` is told the name of each, and whether it was there already."""
    made = [Step("tuned", merged)]

    def done(name: str, outcome: tuple[Model, bool]) -> Model:
        note(name if plan.name in ("tuned", "pruned") and name != "trim" else _named(name, plan), outcome[1])
        made.append(Step(name, outcome[0]))
        return outcome[0]

    model = merged
    if plan.prune.is_on:
        model = done("prune", pruning.prune(project, model, dataset, plan.prune))
        if plan.prune.heals:
            model = done("heal", pruning.heal(project, model, merged, dataset, plan.prune))
    if plan.trim.method != "none":
        done("trim", trimming.trim(project, model, dataset, plan.trim))
    return made


def export_candidate(
    project: Project, plan: PlanSettings, model: Model, kind: Export, dataset: Artifact, note: Note
) -> Candidate | None:
    """Export a plan's model and put it on its engine; None for what only other servers serve."""
    exported, reused = stages.export(project, model, kind, dataset)
    note(f"compress {'' if plan.name == 'tuned' else f'{plan.name} '}to {kind}", reused)
    if kind in FOR_GPU_SERVERS:
        project.progress.say(f"{plan.name}-{kind} is for servers with a GPU, and no candidate here: {exported.path}")
        return None
    return stages.candidate(project, f"{plan.name}-{kind}", exported)


def _named(name: str, plan: PlanSettings) -> str:
    return name if plan.name == "tuned" else f"{name} {plan.name}"
