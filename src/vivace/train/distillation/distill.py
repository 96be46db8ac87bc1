"""From a teacher and a dataset to a student: the lesson made, the student trained on it, the facts told."""

import json
import shutil
from pathlib import Path
from typing import Any

import msgspec

from vivace.config.distill import DistillSettings
from vivace.config.train import PreferenceSettings, SearchSettings, TrainSettings
from vivace.domain import Model, Workspace
from vivace.errors import ConfigError, ModelError
from vivace.models import ChatTokenizer, describe, load_with_adapter, save_model
from vivace.store.files import read_journal
from vivace.train.distillation.lesson import Divergence, Lesson
from vivace.train.distillation.prompting import Baked, bake
from vivace.train.quiet import quiet_libraries
from vivace.train.tune import HISTORY, tune

LEARNING_RATE = 3e-4
"""Of all weights: a student that was cut has farther to go than a base that is tuned."""
SEEING = ("logits", "gkd", "prompt")
"""The methods whose student sees the teacher's distribution."""


def distill(
    dataset: Path,
    student: Model,
    teacher: Model | None,
    system: str,
    settings: TrainSettings,
    workspace: Workspace,
    root: Path = Path(),
) -> dict[str, Any]:
    """Train the student and return the facts; `out` gets `model/` (a whole Hugging Face folder) and `history.jsonl`.

    With `layers` below 1 the student is cut first. Without a teacher the student learns the dataset's answers alone,
    as it does when a teacher has written them. `root` is where `teacher_system` looks for its file. Interrupted and
    started again in the same scratch folder it ends with the same weights, bit by bit. Raises `ModelError` when the
    two read text as different tokens, `ConfigError` for settings that exclude one another.
    """
    wanted = settings.distill
    check_settings(settings)
    for model in (student, teacher):
        if model is not None and model.format != "hf":
            raise ModelError(
                f"{model.name} is in format {model.format!r}; students and teachers are Hugging Face folders."
            )
    with quiet_libraries():
        start, layers = _cut(student, wanted, workspace)
    lesson, baked = None, None
    if teacher is not None:
        dataset, lesson, baked = _lesson(dataset, start, teacher, system, settings, workspace, root)
    own = student_settings(settings)
    facts = tune(dataset, start, system, own, workspace, lesson=lesson)
    if wanted.tuning != "full":
        with quiet_libraries():
            _fold(start, workspace)
    rows = [json.loads(line) for line in read_journal(workspace.out / HISTORY)]
    told: dict[str, Any] = {}
    if teacher is not None:
        told = {"teacher_layers": _layers(teacher), "teacher_parameters": describe(teacher.path).parameters}
    if baked is not None:
        told |= {"shown_to_teacher": baked.shown, "left_out": baked.dropped}
    return {
        **facts,
        "method": "full",
        "tuning": wanted.tuning,
        "distill_method": wanted.method,
        **_progress(rows, facts),
        "student_layers": _layers(start),
        "student_parameters": describe(start.path).parameters,
        "kept_layers": list(layers),
        **told,
    }


def check_settings(settings: TrainSettings) -> None:
    """Raise `ConfigError` for settings that exclude one another."""
    wanted = settings.distill
    if settings.packing and wanted.method in ("gkd", "prompt"):
        raise ConfigError(
            f'packing = true in [train] does not go with method = "{wanted.method}" in [train.distill]: there each '
            "conversation is looked at alone.",
            "Set packing = false in [train].",
        )
    if wanted.method in SEEING and alpha_of(wanted) == 0:
        raise ConfigError(
            "alpha = 0 in [train.distill] leaves the teacher out of the loss.", "Raise alpha, or leave it empty."
        )


def alpha_of(wanted: DistillSettings) -> float:
    """Return the weight of the teacher, by method when none is set."""
    if wanted.alpha is not None:
        return wanted.alpha
    return 0.5 if wanted.method == "logits" else 1.0


def student_settings(settings: TrainSettings) -> TrainSettings:
    """Return the settings that the student is trained with: those of [train], laid over by [train.distill]."""
    wanted = settings.distill
    rate = LEARNING_RATE if wanted.learning_rate is None and wanted.tuning == "full" else wanted.learning_rate
    return settings.model_copy(
        update={
            "method": wanted.tuning,
            "learning_rate": rate,
            "max_tokens": wanted.max_tokens,
            "num_train_epochs": wanted.num_train_epochs,
            "search": SearchSettings(),
            "preference": PreferenceSettings(),
        }
    )


def _cut(student: Model, wanted: DistillSettings, workspace: Workspace) -> tuple[Model, tuple[int, ...]]:
    """Return the student to train and which of its layers it keeps."""
    from vivace.train.distillation.student import cut_layers, even_layers, layer_count

    count = layer_count(student.path)
    keep = even_layers(count, wanted.layers)
    if len(keep) == count:
        return student, keep
    folder = workspace.scratch / f"student-{len(keep)}-layers"
    if not folder.is_dir():
        with workspace.progress.task(f"Cutting the student: {len(keep)} of {count} layers"):
            cut_layers(student.path, keep, folder)
    return msgspec.structs.replace(student, path=folder), keep


def _lesson(
    dataset: Path,
    student: Model,
    teacher: Model,
    system: str,
    settings: TrainSettings,
    workspace: Workspace,
    root: Path,
) -> tuple[Path, Lesson, Baked | None]:
    """Return the dataset that the student can learn from, with what the teacher adds."""
    from vivace.train.distillation.teacher import check_same_tokens

    wanted, progress = settings.distill, workspace.progress
    check_same_tokens(teacher.path, student.path, settings.max_length)
    tokenizer = ChatTokenizer.open(student.path)
    baked = None
    if wanted.method == "prompt":
        with progress.task("Writing the teacher's prompts"):
            lengths = (
                min(settings.max_length, tokenizer.context_length),
                ChatTokenizer.open(teacher.path).context_length,
            )
            before = dataset
            dataset = workspace.scratch / "baked.jsonl"
            baked = bake(before, dataset, tokenizer, lengths, system, wanted, settings.seed, root)
        for reason, count in baked.dropped.items():
            progress.say(f"{count:,} conversations left out: {reason}.")
    lesson = Lesson(
        teacher.path,
        Divergence(wanted.divergence, wanted.beta, wanted.temperature),
        alpha_of(wanted),
        lmbda=wanted.lmbda if wanted.method == "gkd" else 0.0,
        max_new_tokens=wanted.max_new_tokens,
        heat=wanted.sampling_temperature,
        eos_ids=tuple(sorted(tokenizer.eos_ids)),
        seed=settings.seed,
        baked=baked.rows if baked is not None else (),
    )
    return dataset, lesson, baked


def _fold(student: Model, workspace: Workspace) -> None:
    """Put the trained adapter into the student's weights."""
    made = workspace.out / "model"
    with workspace.progress.task("Merging the student's adapter"):
        merged = load_with_adapter(made, student.path).merge_and_unload(safe_merge=True)
        shutil.rmtree(made)
        save_model(merged, student.path, made)


def _layers(model: Model) -> int:
    from vivace.train.distillation.student import layer_count

    return layer_count(model.path)


def _progress(rows: list[dict[str, Any]], facts: dict[str, Any]) -> dict[str, Any]:
    """Return how far student and teacher were apart, and are at the checkpoint that was kept.

    `best_validation_loss` is the cross entropy, as of other runs; the course went by what was learned.
    """
    found = {row["step"]: row for row in rows if "validation_objective" in row}
    best = found.get(facts.get("best_step", 0))
    if best is None or 0 not in found:
        return {}
    told: dict[str, Any] = {
        "validation_loss_before": found[0]["validation_loss"],
        "best_validation_loss": best["validation_loss"],
        "validation_objective_before": found[0]["validation_objective"],
        "best_validation_objective": best["validation_objective"],
    }
    for name in ("divergence", "teacher_agreement"):
        told |= {f"{name}_before": found[0][f"validation_{name}"], f"{name}_after": best[f"validation_{name}"]}
    return told
