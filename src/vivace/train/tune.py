"""From a dataset and a base model to the domain's model."""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vivace.config.train import TrainSettings
from vivace.domain import Example, Model, Workspace
from vivace.errors import DataError, ModelError
from vivace.models import ChatTokenizer, fits
from vivace.store import read_examples
from vivace.store.files import write_atomic
from vivace.train.batches.curriculum import difficulties
from vivace.train.batches.plan import Plan, make_curriculum, make_plan
from vivace.train.batches.rows import Encoded, Row, encode_examples
from vivace.train.course import Course, interruption
from vivace.train.methods import check_method, learning_rate
from vivace.train.quiet import quiet_libraries

if TYPE_CHECKING:
    from vivace.train.averaging import Averaged

HISTORY = "history.jsonl"
GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def tune(dataset: Path, base: Model, system: str, settings: TrainSettings, workspace: Workspace) -> dict[str, Any]:
    """Tune `base` on the dataset's train split and return the facts; `out` gets `model/` and `history.jsonl`.

    Checkpoints live in the scratch folder: started again there, an interrupted run ends with the same weights, bit by
    bit, as one that ran through. `model/` holds the best checkpoint by `metric_for_best_model`, or the mean of the
    best ones.
    """
    _check_base(base)
    check_method(settings)
    if settings.method == "prompt_tuning":
        workspace.progress.say("Learned tokens cannot be merged: PEFT opens the adapter, but nothing can be exported.")
    began = time.monotonic()
    train, validation = _read(dataset, base, system, settings, workspace)
    encode_s = time.monotonic() - began
    with quiet_libraries():
        plan = _plan(train.rows, base, settings, workspace)
        plan_s = time.monotonic() - began - encode_s
        facts = _train(train.rows, validation, plan, base, settings, workspace)
    write_atomic(workspace.out / HISTORY, (workspace.scratch / HISTORY).read_bytes())
    return {
        **facts,
        "examples": len(train.rows),
        "validation_examples": len(validation),
        "shortened": train.shortened,
        "dropped": train.dropped,
        "seconds": {"encode": round(encode_s, 3), "plan": round(plan_s, 3), **facts["seconds"]},
    }


def _plan(rows: Sequence[Row], base: Model, settings: TrainSettings, workspace: Workspace) -> Plan:
    lengths = [len(row.ids) for row in rows]
    budget: dict[str, Any] = {
        "batch_size": settings.per_device_train_batch_size,
        "accumulation": settings.gradient_accumulation_steps,
        "epochs": settings.num_train_epochs,
        "max_tokens": settings.max_tokens,
        "seed": settings.seed,
    }
    if settings.train_sampling_strategy == "shuffled":
        return make_plan(lengths, **budget)
    difficulty = difficulties(rows, settings.curriculum, base, workspace)
    return make_curriculum(lengths, difficulty, settings.curriculum_stages, **budget)


def _read(
    dataset: Path, base: Model, system: str, settings: TrainSettings, workspace: Workspace
) -> tuple[Encoded, tuple[Row, ...]]:
    tokenizer = ChatTokenizer.open(base.path)
    longest = min(settings.max_length, tokenizer.context_length)
    with workspace.progress.task("Encoding the conversations"):
        train = encode_examples(tokenizer, read_examples(dataset, "train"), system, longest)
        held = _sample(read_examples(dataset, "validation"), settings.max_validation_examples, settings.seed)
        validation: tuple[Row, ...] = ()
        if held:
            try:
                validation = encode_examples(tokenizer, held, system, longest, split="validation").rows
            except (DataError, ModelError) as error:
                workspace.progress.say(f"Training goes on without validation: {error.message}")
    for reason, count in train.dropped.items():
        workspace.progress.say(f"{count:,} conversations left out of training: {reason}.")
    if train.shortened:
        workspace.progress.say(f"{train.shortened:,} conversations lost their oldest turns to fit {longest:,} tokens.")
    if not validation:
        workspace.progress.say("No validation examples: the last checkpoint is kept, and nothing stops training early.")
    return train, tuple(sorted(validation, key=lambda row: len(row.ids)))


def _sample(examples: Iterable[Example], count: int, seed: int) -> list[Example]:
    """Return so many examples, chosen by their ids alone: datasets come sorted by source."""
    return sorted(examples, key=lambda example: hashlib.sha256(f"{seed} {example.id}".encode()).digest())[:count]


def _check_base(base: Model) -> None:
    if base.format != "hf":
        raise ModelError(
            f"{base.name} is in format {base.format!r}; only a Hugging Face folder can be trained.",
            "Name such a model as base in [models].",
        )
    try:
        config = json.loads((base.path / "config.json").read_text())
        names = [str(name) for name in config.get("architectures") or []]
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{base.path} has no config.json that can be read.") from error
    if names and not any(name.endswith(GENERATIVE) for name in names):
        raise ModelError(
            f"{base.name} is a {names[0]}, which does not write text.", "Take a causal language model tuned for chat."
        )


def _train(
    rows: Sequence[Row],
    validation: tuple[Row, ...],
    plan: Plan,
    base: Model,
    settings: TrainSettings,
    workspace: Workspace,
) -> dict[str, Any]:
    from vivace.train import adapters, averaging, checkpoints, machine, session

    on = machine.device()
    kind = machine.arithmetic(settings.dtype, on)
    key = run_key(rows, validation, base, settings, kind)
    began = time.monotonic()
    fits(base)
    with workspace.progress.task("Loading the base model"):
        model = session.open_for_training(base, settings, kind, on)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    need = machine.memory_needed(model, plan.longest_batch, adapters.depth(settings))
    machine.check_memory(need, on, plan.longest_batch, trainable)
    load_s = time.monotonic() - began

    course = Course(
        workspace.scratch / HISTORY,
        patience=settings.early_stopping_patience,
        milestones=plan.milestones(settings.eval_steps_fraction),
        validates=bool(validation),
        metric=settings.metric_for_best_model,
    )
    start = checkpoints.newest_checkpoint(workspace.scratch, key)
    with interruption() as wish, workspace.progress.task("Training", total=plan.tokens) as task:
        trainer = session.make_trainer(
            model, rows, validation, plan, course, base, settings, kind, workspace.scratch, key, task, wish
        )
        steps = session.run(trainer, start, workspace)
    began = time.monotonic()
    averaged = averaging.average_best(trainer, settings.average_checkpoints)
    if averaged is not None and settings.average_checkpoints > 1:
        workspace.progress.say(_about_averaging(averaged, course))
    with workspace.progress.task("Writing the model"):
        adapters.write_model(session.bare(trainer), base, settings, workspace.out / "model")
    return {
        **_figures(course, plan, steps, averaged),
        "method": settings.method,
        "dtype": kind,
        "device": on,
        "trainable_parameters": trainable,
        "parameters": sum(p.numel() for p in model.parameters()),
        "peak_memory_bytes": machine.peak_memory_bytes(on),
        "learning_rate": learning_rate(settings),
        "seconds": {
            "load": round(load_s, 3),
            "train": round(course.train_s, 3),
            "validate": round(course.validate_s, 3),
            "write": round(time.monotonic() - began, 3),
        },
    }


def _about_averaging(averaged: "Averaged", course: Course) -> str:
    if len(averaged.steps) == 1:
        return f"The model is the checkpoint of step {course.best_step:,}: no mean of checkpoints is better."
    told = ", ".join(f"{step:,}" for step in averaged.steps)
    return (
        f"The model is the mean of the checkpoints of steps {told}: validation loss {averaged.loss:.3f}, "
        f"token accuracy {averaged.token_accuracy:.0%}."
    )


def _figures(course: Course, plan: Plan, steps: int, averaged: "Averaged | None") -> dict[str, Any]:
    tokens = plan.tokens_until(steps)
    figures: dict[str, Any] = {
        "steps": steps,
        "planned_steps": plan.steps,
        "tokens": tokens,
        "tokens_per_s": round(tokens / course.train_s, 1) if course.train_s else 0.0,
        "stopped_early": course.stopped_early,
    }
    if course.validates:
        figures |= {
            "best_step": course.best_step,
            "validation_loss_before": course.before["validation_loss"],
            "best_validation_loss": course.best_loss,
            "validation_token_accuracy_before": course.before["validation_token_accuracy"],
            "best_validation_token_accuracy": course.best_accuracy,
        }
    if averaged is not None and len(averaged.steps) > 1:
        figures |= {
            "averaged_steps": list(averaged.steps),
            "best_validation_loss": averaged.loss,
            "best_validation_token_accuracy": averaged.token_accuracy,
        }
    return figures


def run_key(rows: Sequence[Row], validation: Sequence[Row], base: Model, settings: TrainSettings, dtype: str) -> str:
    """Return what tells this run from another one in the same scratch folder."""
    told = hashlib.sha256(settings.model_dump_json().encode())
    told.update(f"{base.path}\n{dtype}\n".encode())
    told.update(msgspec.msgpack.encode((tuple(rows), tuple(validation))))
    return told.hexdigest()
