"""TRL's SFTTrainer with our batches, our loss on the learned tokens, and checkpoints without pickle."""

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState
from trl.trainer.sft_trainer import SFTTrainer

from vivace.domain import Task
from vivace.train import checkpoints
from vivace.train.batches.packing import check_packing, collate, collate_packed
from vivace.train.batches.plan import Plan
from vivace.train.batches.rows import IGNORED, Row
from vivace.train.batches.shares import micro_batches, step_rows
from vivace.train.course import Course, Interruption, remark
from vivace.train.frozen import MEMORY_SHARE, WORTH, FrozenBottom, keep_frozen
from vivace.train.head_loss import backbone, head_loss, is_plain_head, reference_loss
from vivace.train.machine import device, memory_free
from vivace.train.recovery.divergence import SLOWER, diverged, slow_down
from vivace.train.workers.group import Group


class ChatTrainer(SFTTrainer):
    """Trains on a plan of batches, tells its course, and keeps checkpoints of safetensors and JSON only.

    To the trainer below, a batch is all that this worker computes of one update: a list of micro-batches. How many
    rows are computed at a time, and by how many workers, changes nothing else.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        course: Course,
        rows: Sequence[Row],
        validation: Sequence[Row],
        scratch: Path,
        key: str,
        task: Task,
        wish: Interruption,
        group: Group,
        micro_batch: int,
        smoothing: float = 0.0,
        pack_to: int | None = None,
        average_checkpoints: int = 1,
        **arguments: Any,
    ) -> None:
        super().__init__(**arguments)
        self.network: Any = self.model
        self.smoothing, self.pack_to, self.average_checkpoints = smoothing, pack_to, average_checkpoints
        self.plan, self.course, self.rows, self.validation = plan, course, rows, validation
        self.group, self.micro_batch = group, micro_batch
        self.scratch, self.key, self.task, self.wish = scratch, key, task, wish
        self._lengths = [len(row.ids) for row in rows]
        self.pad_id = arguments["processing_class"].pad_token_id
        self.remove_callback(PrinterCallback)
        self.add_callback(_Schedule(self))
        self.plain_head = is_plain_head(self._bare(self.network))
        self.virtual_tokens = int(getattr(getattr(self.network, "active_peft_config", None), "num_virtual_tokens", 0))
        if pack_to is not None:
            check_packing(self._bare(self.network))
        self.frozen = self._frozen()
        self.slower = 1.0
        self._sums = [0.0, 0, 0]
        self._clock = time.monotonic()

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Serve the plan's steps, all passes in a row."""
        return DataLoader(
            _Steps(self),
            batch_sampler=[[step] for step in range(self.plan.steps)],
            collate_fn=_first,
            generator=torch.Generator(),  # its draws must not move the global random state
        )

    def micro_batches_of(self, step: int) -> list[dict[str, Tensor]]:
        """Return what this worker computes of a step, counted from 0."""
        batches = micro_batches(
            step_rows(self.plan, step), self._lengths, self.micro_batch, self.group.rank, self.group.size
        )
        return [self._collate([_columns(self.rows[i]) for i in batch]) for batch in batches]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Leave the gradients of one update, of all workers together, and return this worker's loss."""
        step = self.state.global_step
        if self.group.size > 1:
            # Each worker's own noise, the same again after an interruption.
            torch.manual_seed((((self.args.seed << 32) + step) * self.group.size + self.group.rank) % (1 << 63))
        model.train()
        learned = sum(self.rows[i].learned for batch in step_rows(self.plan, step) for i in batch)
        total = torch.zeros((), device=self.args.device)
        for micro_batch in inputs:
            given = self._prepare_inputs(micro_batch)
            loss = self.compute_loss(model, given, num_items_in_batch=learned)
            self.accelerator.backward(loss)
            total += loss.detach()
        *sums, asked = self.group.sum([*self._sums, self.wish.look()])
        self._sums = sums
        if asked:
            self.wish.asked = True
        if not math.isfinite(sums[0]):
            raise self._diverged(step + 1)
        self.group.sum_gradients(self.network.parameters())
        return total

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return this micro-batch's part of the mean loss over the learned tokens of the whole step."""
        total, right, learned = self._measure(model, inputs, self.smoothing)
        found = (float(total.detach()), right, learned)
        self._sums = [old + new for old, new in zip(self._sums, found, strict=True)]
        return total / torch.as_tensor(learned if num_items_in_batch is None else num_items_in_batch).clamp(min=1)

    def evaluate(self, *_args: Any, **_named: Any) -> dict[str, float]:
        """Validate, and stop training when the course says so."""
        loss, accuracy = self.validation_figures()
        self.control.should_evaluate = False
        if not math.isfinite(loss):
            raise self._diverged(self.state.global_step, "validation loss")
        if not self.course.validated(self.state.global_step, loss, accuracy):
            self.control.should_training_stop = True
        return {"eval_loss": loss}

    def validation_figures(self) -> tuple[float, float]:
        """Return loss and token accuracy per learned token on the validation rows."""
        began = self._tick()
        self.task.note("validating")
        self.network.eval()
        sums = [0.0, 0, 0]
        size = 2 * self.micro_batch
        with torch.no_grad():
            for start in range(size * self.group.rank, len(self.validation), size * self.group.size):
                rows = [_columns(row) for row in self.validation[start : start + size]]
                total, right, learned = self._measure(self.network, self._prepare_inputs(collate(rows, self.pad_id)))
                sums = [old + new for old, new in zip(sums, (float(total), right, learned), strict=True)]
        sums = self.group.sum(sums)
        self.network.train()
        self._clock = time.monotonic()
        self.course.validate_s += self._clock - began
        return sums[0] / sums[2], sums[1] / sums[2]

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Turn a step's log into a row of the history."""
        if "loss" not in logs:
            return
        step = self.state.global_step
        row = {
            "step": step,
            "tokens": self.plan.tokens_until(step),
            "loss": self._sums[0] / max(1, self._sums[2]),
            "token_accuracy": self._sums[1] / max(1, self._sums[2]),
            "learning_rate": logs["learning_rate"],
        }
        self._tick()
        remark(self.task, row, self.course)
        self.task.advance(row["tokens"] - self.plan.tokens_until(step - 1))
        self._sums = [0.0, 0, 0]
        self.control.should_log = False
        self.course.stepped(row, validates_now=self.course.validates and self.course.is_milestone(step))

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Count nothing: nobody asks, and counting walks over every parameter at every step."""
        return 0

    def _clip_grad_norm(self, model: Any) -> Tensor:
        """Scale large gradients down; what is not finite never reaches the weights."""
        norm: Tensor = super()._clip_grad_norm(model)  # type: ignore[no-untyped-call]
        if not math.isfinite(float(norm)):
            raise self._diverged(self.state.global_step + 1, "gradient")
        return norm

    def _check_weights(self) -> None:
        """Look before weights are kept: the update itself may have ruined them, and no later loss would tell."""
        step = self.state.global_step
        if not all(bool(torch.isfinite(p).all()) for p in self.network.parameters() if p.requires_grad):
            raise self._diverged(step, "weights")
        if self.course.validates and self.course.is_milestone(step):
            return  # the validation has just shown that they work
        self.network.eval()
        with torch.no_grad():
            rows = [_columns(self.rows[i]) for i in self.plan.batches[0][: self.micro_batch]]
            total, _right, _learned = self._measure(self.network, self._prepare_inputs(self._collate(rows)))
        self.network.train()
        if not math.isfinite(float(total)):
            raise self._diverged(step)

    def _diverged(self, step: int, what: str = "loss") -> Exception:
        rate = self.args.learning_rate / SLOWER**self.course.rolled_back
        return diverged(step, rate, self.course.rolled_back, what)

    def _measure(self, model: Any, inputs: dict[str, Any], smoothing: float = 0.0) -> tuple[Tensor, int, int]:
        """Return the summed loss, how many tokens were guessed and how many are learned."""
        labels, shares = inputs["labels"], inputs.get("shares")
        learned = int((labels[:, 1:] != IGNORED).sum())
        inner = self._bare(model)
        given = {name: value for name, value in inputs.items() if name not in ("labels", "shares")}
        if self.virtual_tokens:
            given = self._prompted(inner, **given)
            labels = torch.nn.functional.pad(labels, (self.virtual_tokens, 0), value=IGNORED)
        with self.accelerator.autocast():  # accelerate itself puts it around the whole model only
            if not self.plain_head:
                total, right = reference_loss(inner, given, labels, shares, smoothing)
            else:
                hidden = self.frozen(**given) if self.frozen else backbone(inner)(**given, use_cache=False)[0]
                total, right = head_loss(hidden, inner.get_output_embeddings().weight, labels, shares, smoothing)
        return total, int(right), learned

    def _frozen(self) -> FrozenBottom | None:
        """Return the frozen layers at the bottom where it pays to keep what leaves them."""
        views = [i for batch in self.plan.batches for i in batch]
        if len(views) < WORTH * len(set(views)) or not self.plain_head or self.args.neftune_noise_alpha:
            return None
        return keep_frozen(self._bare(self.network), int(MEMORY_SHARE * memory_free(device())))

    def _prompted(self, inner: Any, input_ids: Tensor, attention_mask: Tensor) -> dict[str, Tensor]:
        """Put the learned tokens of prompt tuning before each row, as PEFT does."""
        said = inner.get_input_embeddings()(input_ids)
        prompts = self.accelerator.unwrap_model(self.network).get_prompt(batch_size=len(input_ids)).to(said.dtype)
        return {
            "inputs_embeds": torch.cat([prompts, said], dim=1),
            "attention_mask": torch.nn.functional.pad(attention_mask, (self.virtual_tokens, 0), value=1),
        }

    def _tick(self) -> float:
        """Count the time since the last tick as training, and return now."""
        now = time.monotonic()
        if self.is_in_train:
            self.course.train_s += now - self._clock
        self._clock = now
        return now

    def _collate(self, rows: list[dict[str, Any]]) -> dict[str, Tensor]:
        return collate(rows, self.pad_id) if self.pack_to is None else collate_packed(rows, self.pad_id, self.pack_to)

    def _bare(self, model: Any) -> Any:
        inner = self.accelerator.unwrap_model(model)
        return inner.get_base_model() if hasattr(inner, "get_base_model") else inner

    # What Trainer writes with torch.save, in safetensors and JSON instead.

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        self._check_weights()
        self._tick()
        if self.group.writes:
            self._write_checkpoint()
        self.group.barrier()

    def _write_checkpoint(self) -> None:
        state = TrainerState(
            global_step=self.state.global_step,
            epoch=self.state.epoch,
            max_steps=self.state.max_steps,
            num_train_epochs=self.state.num_train_epochs,
            train_batch_size=self.state.train_batch_size,
            logging_steps=self.state.logging_steps,
            eval_steps=self.state.eval_steps,
            save_steps=self.state.save_steps,
        )
        checkpoints.write_checkpoint(
            self.scratch, self.state.global_step, self.key, self.course.notes(), self, vars(state)
        )
        kept = [found.step for found in self.course.best(self.average_checkpoints)]
        checkpoints.prune_checkpoints(self.scratch, self.course.best_step, kept)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        checkpoints.load_weights(self.network, Path(resume_from_checkpoint))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpoints.load_optimizer(self.optimizer, self.lr_scheduler, Path(checkpoint))
            slow_down(self.optimizer, self.lr_scheduler, self.slower)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            checkpoints.load_random_state(Path(checkpoint))

    def _load_scaler(self, checkpoint: str | None) -> None:
        return None  # bfloat16 needs no scaler

    def _send_telemetry(self) -> None:
        return None


class _Schedule(TrainerCallback):
    """Says after each step whether to validate, to keep a checkpoint and to stop."""

    def __init__(self, trainer: ChatTrainer) -> None:
        self.trainer = trainer

    def on_step_end(self, args: Any, state: Any, control: TrainerControl, **_named: Any) -> TrainerControl:
        """Validate and keep at milestones, keep when the user wants to stop."""
        course = self.trainer.course
        milestone = course.is_milestone(state.global_step)
        control.should_evaluate = milestone and course.validates
        control.should_save = milestone or self.trainer.wish.asked
        return control

    def on_train_begin(self, args: Any, state: Any, control: TrainerControl, **_named: Any) -> None:
        """Start the clock."""
        self.trainer._clock = time.monotonic()

    def on_save(self, args: Any, state: Any, control: TrainerControl, **_named: Any) -> None:
        """Stop once the checkpoint is on disk."""
        if self.trainer.wish.asked:
            raise KeyboardInterrupt


class _Steps(Dataset[list[dict[str, Tensor]]]):
    """The steps of the plan, each laid out as tensors when it is its turn."""

    def __init__(self, trainer: ChatTrainer) -> None:
        self.trainer = trainer

    def __len__(self) -> int:
        return self.trainer.plan.steps

    def __getitem__(self, step: int) -> list[dict[str, Tensor]]:
        return self.trainer.micro_batches_of(step)


def _first(steps: list[Any]) -> Any:
    return steps[0]


def _columns(row: Row) -> dict[str, Any]:
    return {"input_ids": row.ids, "labels": row.labels, "share": row.share}
