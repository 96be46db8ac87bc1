"""One training session of an encoder: planned, checked, run from the start or from a checkpoint, written."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from vivace.config.intent import EncoderSettings
from vivace.domain import Model, Workspace
from vivace.store.files import folder_digest

if TYPE_CHECKING:
    from vivace.train.encoders.trainer import EncoderTrainer, Lesson


def train_encoder(
    model: Any,
    lesson: "Lesson",
    lengths: Sequence[int],
    encoder: Model,
    settings: EncoderSettings,
    key: str,
    label: str,
    workspace: Workspace,
) -> dict[str, Any]:
    """Teach the lesson (rows of so many tokens), write the best weights to `out/model` and return the facts."""
    from vivace.train import checkpoints, machine
    from vivace.train.batches.plan import make_plan
    from vivace.train.course import interruption
    from vivace.train.encoders.opening import write_classifier
    from vivace.train.encoders.trainer import EncoderTrainer

    plan = make_plan(
        lengths,
        batch_size=settings.per_device_train_batch_size,
        accumulation=1,
        epochs=settings.num_train_epochs,
        max_tokens=None,
        seed=settings.seed,
    )
    on, trained = machine.device(), sum(p.numel() for p in model.parameters() if p.requires_grad)
    need = machine.memory_needed(model, plan.longest_batch, 1 - settings.freeze_layers_fraction)
    machine.check_memory(need, on, plan.longest_batch, trained)
    start = checkpoints.newest_checkpoint(workspace.scratch, key)
    if start is not None:
        workspace.progress.say(f"Training continues after step {start.step:,} of {plan.steps:,}.")
    with interruption() as wish, workspace.progress.task(label, total=plan.tokens) as task:
        trainer = EncoderTrainer(model, lesson, plan, settings, workspace.scratch, key, task, wish, on)
        trainer.teach(start)
    with workspace.progress.task("Writing the model"):
        write_classifier(model, encoder, workspace.out / "model")
    return _facts(trainer) | {"encoder": encoder.name, "device": on, "trainable_parameters": trained}


def run_key(encoder: Model, settings: EncoderSettings, material: object) -> str:
    """Return what tells a run from another one in the same scratch folder."""
    told = hashlib.sha256(settings.model_dump_json().encode())
    told.update(folder_digest(encoder.path)[0].encode())
    told.update(msgspec.msgpack.encode(material))
    return told.hexdigest()


def _facts(trainer: "EncoderTrainer") -> dict[str, Any]:
    rows = trainer.rows()
    return {
        "steps": rows[-1]["step"],
        "planned_steps": trainer.plan.steps,
        "tokens": rows[-1]["tokens"],
        "best_step": trainer.notes["best_step"],
        "stopped_early": trainer.stopped_early,
        f"best_validation_{trainer.lesson.metric}": trainer.notes["best"][0],
        "validation_loss_before": rows[0]["validation_loss"],
        "best_validation_loss": trainer.notes["best"][1],
        "learning_rate": trainer.settings.learning_rate,
        "seconds": {"train": round(trainer.notes["train_s"], 3)},
    }
