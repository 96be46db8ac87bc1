"""A training run to its end: what does not fit is cut smaller, what diverged begins again at the last good step."""

import gc
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from vivace.domain import Workspace
from vivace.errors import ResourceError
from vivace.models import fits
from vivace.train.batches.plan import Plan
from vivace.train.batches.shares import longest_micro_batch
from vivace.train.course import Course, interruption
from vivace.train.methods import learning_rate
from vivace.train.recovery import memory
from vivace.train.recovery.divergence import MAX_ROLLBACKS, SLOWER, DivergedError, about_rolling_back
from vivace.train.workers.group import Group
from vivace.train.workers.job import Job

if TYPE_CHECKING:
    from vivace.train.averaging import Averaged
    from vivace.train.checkpoints import Checkpoint

HISTORY = "history.jsonl"
Attempt = Callable[[Job, Workspace], dict[str, Any]]


def run_job(job: Job, workspace: Workspace, attempt: Attempt | None = None) -> dict[str, Any]:
    """Train to the end and return the facts.

    Out of memory halves how many conversations are computed at a time, down to one; the rows of each update stay the
    same. A number that is not finite sends training back to the newest checkpoint with half the learning rate, twice
    at most. Raises `ResourceError` and `ModelError` when that did not help.
    """
    attempt = attempt or train_once
    while True:
        again: Job | None = None
        try:
            return attempt(job, workspace)
        except DivergedError as error:
            again = _slower(error, job, workspace)
        except memory.OutOfMemoryError as error:
            again = _smaller(error.micro_batch, job, workspace)
        # Outside of the handlers: the error held on to the model and its activations.
        _release()
        job = again


def _slower(error: DivergedError, job: Job, workspace: Workspace) -> Job:
    from vivace.train import checkpoints

    if error.rolled_back >= MAX_ROLLBACKS:
        raise error
    good = checkpoints.newest_checkpoint(workspace.scratch, job.key)
    rate = learning_rate(job.settings) * SLOWER ** (error.rolled_back + 1)
    workspace.progress.say(about_rolling_back(error.step, good.step if good else 0, rate))
    return msgspec.structs.replace(job, rolled_back=error.rolled_back + 1)


def _smaller(tried: int, job: Job, workspace: Workspace) -> Job:
    if tried <= 1:
        raise ResourceError(
            "Training ran out of memory with one conversation at a time.",
            "Lower max_length or lora_layers_fraction in [train], or set gradient_checkpointing = true.",
        )
    smaller = memory.halved(tried)
    workspace.progress.say(memory.about_halving(tried, smaller, "Memory ran out"))
    return msgspec.structs.replace(job, micro_batch=smaller)


def _release() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def train_once(job: Job, workspace: Workspace, group: Group | None = None, wish: Any = None) -> dict[str, Any]:
    """Train in this process, from the newest checkpoint if there is one, write `model/` and return the facts.

    Raises `OutOfMemoryError` and `DivergedError` for `run_job` to deal with. Among several workers each calls this.
    """
    from vivace.train import averaging, checkpoints, machine, session

    group = group or Group()
    settings, plan, progress = job.settings, job.plan, workspace.progress
    began = time.monotonic()
    fits(job.base)
    found = checkpoints.newest_checkpoint(workspace.scratch, job.key)
    session.check_same_checkpoint(found, group)
    job = _as_noted(job, found)
    try:
        with progress.task("Loading the base model"):
            model = session.open_for_training(job.base, settings, job.dtype, job.device, job.start)
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
        job = _small_enough(job, model, trainable, group, workspace)
        load_s = time.monotonic() - began
        course = Course(
            session.own_folder(workspace.scratch, group) / HISTORY,
            patience=settings.early_stopping_patience,
            milestones=plan.milestones(settings.eval_steps_fraction),
            validates=bool(job.validation),
            metric=settings.metric_for_best_model,
        )
        course.estimate = job.estimate
        with interruption(wish) as asked, progress.task("Training", total=plan.tokens) as task:
            trainer = session.make_trainer(model, job, course, workspace.scratch, task, asked, group)
            steps = session.run(trainer, found, job, workspace)
        began = time.monotonic()
        averaged = averaging.average_best(trainer, settings.average_checkpoints)
    except Exception as error:
        if memory.is_out_of_memory(error):
            raise memory.OutOfMemoryError(job.micro_batch) from None
        raise
    if averaged is not None and settings.average_checkpoints > 1:
        progress.say(_about_averaging(averaged, course))
    with progress.task("Writing the model"):
        session.write(trainer, job.base, settings, workspace.out / "model")
    return {
        **_figures(course, plan, steps, averaged),
        "method": settings.method,
        "dtype": job.dtype,
        "device": job.device,
        "workers": group.size,
        "micro_batch": job.micro_batch,
        "rolled_back": course.rolled_back,
        "trainable_parameters": trainable,
        "frozen_layers": trainer.frozen.depth if trainer.frozen else 0,
        "parameters": sum(p.numel() for p in model.parameters()),
        "peak_memory_bytes": machine.peak_memory_bytes(job.device),
        "learning_rate": learning_rate(settings) * SLOWER**course.rolled_back,
        "seconds": {
            "load": round(load_s, 3),
            "train": round(course.train_s, 3),
            "validate": round(course.validate_s, 3),
            "write": round(time.monotonic() - began, 3),
        },
    }


def _as_noted(job: Job, found: "Checkpoint | None") -> Job:
    """Go on as small and as slowly as the checkpoint's run did."""
    if found is None:
        return job
    return msgspec.structs.replace(
        job,
        micro_batch=min(job.micro_batch, found.notes.get("micro_batch") or job.micro_batch),
        rolled_back=max(job.rolled_back, found.notes.get("rolled_back", 0)),
    )


def _small_enough(job: Job, model: Any, trainable: int, group: Group, workspace: Workspace) -> Job:
    """Halve what is computed at a time until it fits; raise `ResourceError` where one conversation does not."""
    from vivace.train import adapters, machine

    depth, lengths = adapters.depth(job.settings), job.lengths
    sharing = group.local_size if job.device == "cpu" else 1  # the workers of one machine share its memory

    def shape(size: int) -> tuple[int, int]:
        return longest_micro_batch(job.plan, lengths, size, group.size)

    def need(size: int) -> int:
        return sharing * machine.memory_needed(model, shape(size), depth)

    fitting = memory.fitting(job.micro_batch, need, machine.memory_free(job.device))
    fitting = int(min(found for (found,) in group.gather([fitting])))
    machine.check_memory(need(fitting), job.device, shape(fitting), trainable)
    if fitting < job.micro_batch:
        workspace.progress.say(memory.about_halving(job.micro_batch, fitting, "Memory would not suffice"))
    return msgspec.structs.replace(job, micro_batch=fitting)


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
