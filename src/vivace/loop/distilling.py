"""Distillation in the loop: teacher and student found, the teacher's answers written, the student trained."""

import asyncio
from pathlib import Path
from typing import Any

from vivace.config.distill import DistillSettings
from vivace.config.train import PreferenceSettings, SearchSettings, TrainSettings
from vivace.domain import Artifact, Candidate, Model, Workspace
from vivace.errors import ConfigError
from vivace.loop import stages
from vivace.loop.project import Project, table
from vivace.store.artifacts import Outcome

SEEN = (
    "method", "teacher_export", "samples", "answer_temperature", "max_answer_tokens", "min_token_f1", "keep_originals",
)  # fmt: skip
"""What of [train.distill] decides which answers a teacher writes and which are kept."""


def is_wanted(settings: TrainSettings) -> bool:
    """Tell whether a student is to learn from a teacher."""
    return settings.distill.method != "none"


def check(settings: TrainSettings) -> None:
    """Raise `ConfigError` for settings that exclude one another, before any work is done."""
    from vivace.train.distillation.distill import check_settings

    wanted = settings.distill
    if not is_wanted(settings):
        return
    check_settings(settings)
    if settings.method == "prompt_tuning" and "tuned" in (wanted.teacher, _student(wanted)):
        raise ConfigError(
            'method = "prompt_tuning" in [train] makes no model that could be teacher or student: its learned tokens '
            "are no weights of the base.",
            "Take lora or another method in [train], or name teacher and student in [train.distill].",
        )


def teach(project: Project, dataset: Artifact, trained: Artifact, base: Model) -> Outcome:
    """Let the teacher answer the prompts of the train split, on the engine of its export."""
    settings = project.settings.train
    wanted = settings.distill
    teacher = _model(project, wanted.teacher, trained, base)
    if wanted.teacher_export != "none":
        teacher, _reused = stages.export(project, teacher, wanted.teacher_export)
    writer = stages.candidate(project, "teacher", teacher)

    def work(workspace: Workspace) -> dict[str, Any]:
        made = asyncio.run(_write(project, dataset, writer, workspace))
        rows = made["accepted"] if wanted.keep_originals else made["accepted"] - dataset.facts["train"]
        counts = {name: dataset.facts[name] + rows for name in ("examples", "train")}
        return dataset.facts | made | counts

    return project.store.run(
        "teach",
        work,
        kind="dataset",
        settings={name: table(wanted)[name] for name in SEEN} | {"chain": writer.chain, "seed": settings.seed},
        parents={"dataset": dataset.id, "teacher": _identity(project, teacher)},
        progress=project.progress,
    )


async def _write(project: Project, dataset: Artifact, writer: Candidate, workspace: Workspace) -> dict[str, Any]:
    from vivace.chain import stack
    from vivace.data import answers
    from vivace.engines import open_engine
    from vivace.evaluate.metrics.token_f1 import token_f1
    from vivace.train.distillation.answers import write_answers

    checks = {
        "repeats itself": answers.loop,
        "speaks as a language model": answers.as_language_model,
        "holds a placeholder": answers.placeholder,
        "has no word": answers.wordless,
    }
    name, threads = project.settings.train.distill.teacher, project.settings.serve.threads
    async with open_engine(writer.engine, writer.model, threads=threads) as engine:
        return await write_answers(
            dataset.path,
            stack(engine, writer.chain),
            project.settings.train.distill,
            workspace,
            teacher=name if name in ("tuned", "base") else writer.model.name,
            seed=project.settings.train.seed,
            overlap=token_f1,
            checks=checks,
        )


def distill(project: Project, dataset: Artifact, trained: Artifact, base: Model) -> Outcome:
    """Train a student on what its teacher says; `dataset` holds the answers where the teacher wrote them."""
    settings = settings_of(project)
    wanted, system = settings.distill, project.settings.project.system
    student = _model(project, _student(wanted), trained, base)
    teacher = None if wanted.method == "answers" else _model(project, wanted.teacher, trained, base)
    parents = {"dataset": dataset.id, "student": _identity(project, student)}
    if teacher is not None:
        parents["teacher"] = _identity(project, teacher)
    if (prompt := _prompt_file(project, wanted)) is not None:
        parents["teacher_system"] = project.digest(prompt)

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.train.distillation.distill import distill as learn

        dataset_file = dataset.path / "examples.jsonl"
        return learn(dataset_file, student, teacher, system, settings, workspace, project.root)

    return project.store.run(
        "distill",
        work,
        kind="model",
        settings=key_of(settings) | {"system": system},
        parents=parents,
        progress=project.progress,
    )


def key_of(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings that change what a student learns."""
    return {
        name: value
        for name, value in table(settings).items()
        if name == "distill" or name not in (*stages.NO_MATTER, "preference")
    }


def settings_of(project: Project) -> TrainSettings:
    """Return the settings of a distillation, without those of what comes before and after."""
    return project.settings.train.model_copy(
        update={"search": SearchSettings(), "preference": PreferenceSettings(), "replay": stages.REPLAY}
    )


def _student(wanted: DistillSettings) -> str:
    """Return what the student starts from."""
    return wanted.student or ("tuned" if wanted.layers < 1 or wanted.method == "prompt" else "base")


def _model(project: Project, name: str, trained: Artifact, base: Model) -> Model:
    """Return a whole model: the tuned one with its adapter merged, the base, or one by its name."""
    from vivace.models import resolve

    if name == "tuned":
        merged, _reused = stages.merge(project, stages.tuned_model(project, trained, base), base)
        return merged
    return base if name == "base" else resolve(name, progress=project.progress, root=project.root)


def _identity(project: Project, model: Model) -> str:
    return model.artifact_id or project.digest(model.path)


def _prompt_file(project: Project, wanted: DistillSettings) -> Path | None:
    from vivace.train.distillation.prompting import system_file

    path = system_file(wanted, project.root) if wanted.method == "prompt" else None
    if path is not None and not path.is_file():
        raise ConfigError(
            f"teacher_system in [train.distill] names {path}, which is no file.",
            "Write file:PATH from the project's folder, or the text itself.",
        )
    return path
