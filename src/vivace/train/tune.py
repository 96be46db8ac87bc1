"""From a dataset and a base model to the domain's model."""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from vivace.config.train import TrainSettings
from vivace.domain import Example, Model, Progress, Workspace
from vivace.errors import DataError, ModelError
from vivace.models import ChatTokenizer
from vivace.store import read_examples
from vivace.store.files import write_atomic
from vivace.train.batches.curriculum import difficulties
from vivace.train.batches.plan import Plan, make_curriculum, make_plan
from vivace.train.batches.rows import Encoded, Row, encode_examples
from vivace.train.distillation.lesson import Lesson
from vivace.train.estimates.estimate import Estimate, estimate
from vivace.train.methods import check_method
from vivace.train.quiet import quiet_libraries
from vivace.train.start import check_start

HISTORY = "history.jsonl"
GENERATIVE = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def tune(
    dataset: Path,
    base: Model,
    system: str,
    settings: TrainSettings,
    workspace: Workspace,
    start: Path | None = None,
    rates: Sequence[float] = (),
    lesson: Lesson | None = None,
) -> dict[str, Any]:
    """Tune `base` on the dataset's train split and return the facts; `out` gets `model/` and `history.jsonl`.

    Checkpoints live in the scratch folder: started again there, an interrupted run ends with the same weights, bit by
    bit, as one that ran through. `model/` holds the best checkpoint by `metric_for_best_model`, or the mean of the
    best ones. `start` is the folder of a model tuned before, whose weights training goes on from; `rates` are the
    operations per second of earlier runs, for the estimate; `lesson` is what a teacher adds to the loss.
    """
    check_base(base)
    check_method(settings)
    if start is not None:
        check_start(start, settings)
    if settings.method == "prompt_tuning":
        workspace.progress.say("Learned tokens cannot be merged: PEFT opens the adapter, but nothing can be exported.")
    began = time.monotonic()
    train, validation = _read(dataset, base, system, settings, workspace)
    encode_s = time.monotonic() - began
    with quiet_libraries():
        plan = _plan(train.rows, base, settings, workspace)
        plan_s = time.monotonic() - began - encode_s
        expected = estimate(train.rows, validation, plan, base, settings, rates=rates)
        if lesson is not None:  # the teacher's time is not in it
            expected = msgspec.structs.replace(expected, seconds=None)
        workspace.progress.say(expected.sentence)
        facts = _train(train.rows, validation, plan, base, settings, workspace, start, expected, lesson)
        facts |= expected.outcome(facts)
    write_atomic(workspace.out / HISTORY, (workspace.scratch / HISTORY).read_bytes())
    return {
        **facts,
        "examples": len(train.rows),
        "validation_examples": len(validation),
        "shortened": train.shortened,
        "dropped": train.dropped,
        "seconds": {"encode": round(encode_s, 3), "plan": round(plan_s, 3), **facts["seconds"]},
    }


def expect(
    dataset: Path, base: Model, system: str, settings: TrainSettings, progress: Progress, rates: Sequence[float] = ()
) -> Estimate:
    """Return what `tune` would take, without loading the base's weights."""
    check_base(base)
    check_method(settings)
    nowhere = Workspace(Path(), Path(), progress)
    train, validation = _read(dataset, base, system, settings, nowhere)
    # Any order has the same rows; how hard they are may take the base's weights to tell.
    shuffled = settings.model_copy(update={"train_sampling_strategy": "shuffled"})
    plan = _plan(train.rows, base, shuffled, nowhere)
    with progress.task("Timing this machine"):
        return estimate(train.rows, validation, plan, base, settings, rates=rates)


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
        held = validation_sample(read_examples(dataset, "validation"), settings)
        validation: tuple[Row, ...] = ()
        if held:
            try:
                validation = encode_examples(tokenizer, held, system, longest, split="validation").rows
            except (DataError, ModelError) as error:
                workspace.progress.say(f"Training goes on without validation: {error.message}")
    for reason, count in train.dropped.items():
        workspace.progress.say(f"{count:,} conversations left out of training: {reason}.")
    if silent := sum(row.silent for row in train.rows):
        workspace.progress.say(
            f"{silent:,} answers are read but not learned: the chat template writes nothing of them (calls of tools)."
        )
    if train.shortened:
        workspace.progress.say(f"{train.shortened:,} conversations lost their oldest turns to fit {longest:,} tokens.")
    if not validation:
        workspace.progress.say("No validation examples: the last checkpoint is kept, and nothing stops training early.")
    return train, tuple(sorted(validation, key=lambda row: len(row.ids)))


def validation_sample(examples: Iterable[Example], settings: TrainSettings) -> list[Example]:
    """Return the examples that training validates on, chosen by their ids alone: datasets come sorted by source."""
    order = sorted(examples, key=lambda item: hashlib.sha256(f"{settings.seed} {item.id}".encode()).digest())
    return order[: settings.max_validation_examples]


def check_base(base: Model) -> None:
    """Raise `ModelError` with the reason for a model that cannot be trained."""
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
    start: Path | None = None,
    expected: Estimate | None = None,
    lesson: Lesson | None = None,
) -> dict[str, Any]:
    from vivace.train import machine
    from vivace.train.recovery.attempts import run_job
    from vivace.train.workers.job import Job
    from vivace.train.workers.launch import is_shared, train_together

    on = machine.device()
    kind = machine.arithmetic(settings.dtype, on)
    key = run_key(rows, validation, base, settings, kind, start)
    if lesson is not None:
        key = hashlib.sha256(key.encode() + msgspec.msgpack.encode(lesson, enc_hook=str)).hexdigest()
    at_a_time = settings.per_device_train_batch_size
    more: dict[str, Any] = {"start": start, "lesson": lesson, "estimate": expected}
    job = Job(tuple(rows), validation, plan, base, settings, kind, on, key, at_a_time, **more)
    return run_job(job, workspace, train_together if is_shared(settings) else None)


def run_key(
    rows: Sequence[Row],
    validation: Sequence[Row],
    base: Model,
    settings: TrainSettings,
    dtype: str,
    start: Path | None = None,
) -> str:
    """Return what tells this run from another one in the same scratch folder."""
    # Another number of workers goes on from the same checkpoints.
    told = hashlib.sha256(settings.model_dump_json(exclude={"workers"}).encode())
    told.update(f"{base.path}\n{dtype}\n{start or ''}".encode())
    told.update(msgspec.msgpack.encode((tuple(rows), tuple(validation))))
    return told.hexdigest()
