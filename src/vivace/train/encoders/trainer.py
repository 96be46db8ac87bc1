"""transformers' Trainer on a plan of batches, with checkpoints of safetensors and JSON only."""

import math
import time
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vivace.config.intent import EncoderSettings
from vivace.domain import Task
from vivace.errors import ModelError
from vivace.store.files import append_line, read_journal, write_atomic
from vivace.train import checkpoints
from vivace.train.batches.plan import Plan
from vivace.train.course import Interruption

HISTORY = "history.jsonl"


class Lesson(Protocol):
    """What is learned: the loss of some rows, and how good the model is on held-out ones."""

    metric: str
    """Name of the validation figure; more is better."""

    def __len__(self) -> int:
        """Return how many rows there are to learn from."""
        ...

    def loss(self, model: Any, rows: list[int]) -> Tensor:
        """Return the mean loss of the rows."""
        ...

    def validate(self, model: Any) -> tuple[float, float]:
        """Return loss and figure on the held-out rows."""
        ...


class EncoderTrainer(Trainer):
    """Teaches a lesson; stops when validation gets no better, and remembers all of it in its checkpoints."""

    def __init__(
        self,
        model: Any,
        lesson: Lesson,
        plan: Plan,
        settings: EncoderSettings,
        scratch: Path,
        key: str,
        task: Task,
        wish: Interruption,
        on: str,
    ) -> None:
        super().__init__(model=model, args=_arguments(plan, settings, scratch, on), train_dataset=_Numbers(len(lesson)))
        self.network: Any = self.model
        self.lesson, self.plan, self.settings = lesson, plan, settings
        self.scratch, self.key, self.task, self.wish = scratch, key, task, wish
        self.milestones = frozenset(plan.milestones(settings.eval_steps_fraction))
        self.history = scratch / HISTORY
        self.notes: dict[str, Any] = {"best_step": None, "best": None, "worse_in_a_row": 0, "train_s": 0.0}
        self._row: dict[str, Any] = {}
        self._loss = math.nan
        self._clock = time.monotonic()
        self.remove_callback(PrinterCallback)
        self.add_callback(_Schedule(self))

    @property
    def stopped_early(self) -> bool:
        """Tell whether so many validations in a row were no better that training ended."""
        return bool(self.notes["worse_in_a_row"] >= self.settings.early_stopping_patience)

    def teach(self, start: checkpoints.Checkpoint | None) -> None:
        """Train from the start or on from a checkpoint, and leave the best weights in the model."""
        if start is None:
            write_atomic(self.history, b"")
            self._row = {"step": 0, "tokens": 0}
            self.evaluate()
            self.train()
        else:
            self.notes = dict(start.notes)
            rows = [row for row in self.rows() if row["step"] <= start.step]
            write_atomic(self.history, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
            self.task.advance(self.plan.tokens_until(start.step))
            if start.step < self.plan.steps and not self.stopped_early:
                self.train(resume_from_checkpoint=str(start.folder))
            else:
                checkpoints.load_weights(self.network, start.folder)
        checkpoints.load_weights(self.network, self.scratch / f"{checkpoints.PREFIX}{self.notes['best_step']}")
        self.network.eval()

    def rows(self) -> list[dict[str, Any]]:
        """Return the history so far."""
        return [msgspec.json.decode(line) for line in read_journal(self.history)]

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Serve the plan's batches, all passes in a row."""
        numbers: Any = self.train_dataset
        return DataLoader(
            numbers,
            batch_sampler=[list(batch) for batch in self.plan.batches],
            collate_fn=lambda rows: {"rows": torch.tensor(rows)},
            generator=torch.Generator(),  # its draws must not move the global random state
        )

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the lesson's loss."""
        loss = self.lesson.loss(model, inputs["rows"].tolist())
        self._loss = float(loss.detach())
        if not math.isfinite(self._loss):
            raise self._diverged(self.state.global_step + 1)
        return loss

    def evaluate(self, *_args: Any, **_named: Any) -> dict[str, float]:
        """Validate, and stop training when it gets no better."""
        self._tick()
        self.task.note("validating")
        self.network.eval()
        with torch.no_grad():
            loss, figure = self.lesson.validate(self.network)
        self.network.train()
        self._clock = time.monotonic()
        step = int(self.state.global_step)
        if not (math.isfinite(loss) and math.isfinite(figure)):
            raise self._diverged(step)
        self._write({"validation_loss": loss, f"validation_{self.lesson.metric}": figure})
        if step:
            best = self.notes["best"]
            # Of equal figures the smaller loss wins: with few held-out rows figures tie often.
            if best is None or (figure, -loss) > (best[0], -best[1]):
                self.notes |= {"best_step": step, "best": [figure, loss], "worse_in_a_row": 0}
            else:
                self.notes["worse_in_a_row"] += 1
            if self.stopped_early:
                self.control.should_training_stop = True
        self.control.should_evaluate = False
        return {"eval_loss": loss}

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Turn a step's log into a row of the history."""
        if "loss" not in logs:
            return
        step = int(self.state.global_step)
        tokens = self.plan.tokens_until(step)
        self._row = {"step": step, "tokens": tokens, "loss": self._loss, "learning_rate": logs["learning_rate"]}
        best = self.notes["best"]
        told = "" if best is None else f", validation {self.lesson.metric.replace('_', ' ')} {best[0]:.3f}"
        self.task.note(f"loss {self._loss:.3f}{told}")
        self.task.advance(tokens - self.plan.tokens_until(step - 1))
        self.control.should_log = False
        if step not in self.milestones:
            self._write({})

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Count nothing: nobody asks."""
        return 0

    def _write(self, more: dict[str, Any]) -> None:
        append_line(self.history, msgspec.json.encode(self._row | more))
        self._row = {}

    def _tick(self) -> None:
        """Count the time since the last tick as training."""
        now = time.monotonic()
        if self.is_in_train:
            self.notes["train_s"] += now - self._clock
        self._clock = now

    def _diverged(self, step: int) -> ModelError:
        return ModelError(
            f"Training diverged: the loss at step {step:,} is not a finite number.",
            f"Lower learning_rate, now {self.settings.learning_rate:g}.",
        )

    # What Trainer writes with torch.save, in safetensors and JSON instead.

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._tick()
        step = int(self.state.global_step)
        names = (
            "epoch",
            "max_steps",
            "num_train_epochs",
            "train_batch_size",
            "logging_steps",
            "eval_steps",
            "save_steps",
        )
        state = TrainerState(global_step=step, **{name: getattr(self.state, name) for name in names})
        checkpoints.write_checkpoint(self.scratch, step, self.key, self.notes, self, vars(state))
        checkpoints.prune_checkpoints(self.scratch, self.notes["best_step"])

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoints.load_weights(self.network, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpoints.load_optimizer(self.optimizer, self.lr_scheduler, Path(checkpoint))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpoints.load_random_state(Path(checkpoint))

    def _load_scaler(self, checkpoint: str | None) -> None:
        return None  # float32 needs no scaler


class _Numbers(torch.utils.data.Dataset[int]):
    """Row numbers: the lesson has the rows."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, number: int) -> int:
        return number


class _Schedule(TrainerCallback):
    """Says after each step whether to validate, to keep a checkpoint and to stop."""

    def __init__(self, trainer: EncoderTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(self, args: Any, state: Any, control: TrainerControl, **_named: Any) -> None:
        """Start the clock."""
        self.trainer._clock = time.monotonic()

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_named: Any) -> TrainerControl:
        """Validate and keep at milestones, keep when the user wants to stop."""
        milestone = state.global_step in self.trainer.milestones
        control.should_evaluate = milestone
        control.should_save = milestone or self.trainer.wish.asked
        return control

    def on_save(self, args: Any, state: Any, control: TrainerControl, **_named: Any) -> None:
        """Stop once the checkpoint is on disk."""
        if self.trainer.wish.asked:
            raise KeyboardInterrupt


def _arguments(plan: Plan, settings: EncoderSettings, scratch: Path, on: str) -> TrainingArguments:
    return TrainingArguments(
        output_dir=str(scratch),
        max_steps=plan.steps,
        per_device_train_batch_size=settings.per_device_train_batch_size,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=round(settings.warmup_ratio * plan.steps),
        weight_decay=settings.weight_decay,
        max_grad_norm=settings.max_grad_norm,
        optim="adamw_torch_fused",
        use_cpu=on == "cpu",
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="no",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        remove_unused_columns=False,
        seed=settings.seed,
    )
