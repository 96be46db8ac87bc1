"""The loop that learns from preferences: resumable, and back to the last good weights when numbers break."""

import json
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from torch import Tensor

from vivace.config.train import TrainSettings
from vivace.domain import Task
from vivace.errors import ModelError
from vivace.store.files import append_line, read_journal, write_atomic
from vivace.train import checkpoints
from vivace.train.batches.plan import Plan
from vivace.train.batches.rows import Row
from vivace.train.course import Interruption
from vivace.train.preferences.loss import AnswerProbabilities
from vivace.train.preferences.objective import Objective
from vivace.train.preferences.rows import Preferences
from vivace.train.recovery.divergence import MAX_ROLLBACKS, SLOWER, slow_down

HISTORY = "history.jsonl"


class References:
    """Log-probabilities of answers under the model as it came, in a journal that survives a crash."""

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.known: dict[Row, float] = {}

    def measure(self, rows: Sequence[Row], say: AnswerProbabilities, batch_size: int, task: Task) -> None:
        """Measure the rows the journal does not know yet; batches are the same however often this is interrupted."""
        kept = {told["batch"]: told["log_probs"] for told in map(json.loads, read_journal(self.journal))}
        ordered = sorted(dict.fromkeys(rows), key=lambda row: (len(row.ids), row.ids, row.labels))
        for number, start in enumerate(range(0, len(ordered), batch_size)):
            batch = ordered[start : start + batch_size]
            if number not in kept:
                kept[number] = measure(say, batch, batch_size).tolist()
                if not np.isfinite(kept[number]).all():
                    raise ModelError("The tuned model gives an answer a probability that is not a finite number.")
                append_line(self.journal, msgspec.json.encode({"batch": number, "log_probs": kept[number]}))
            self.known |= zip(batch, kept[number], strict=True)
            task.advance(sum(len(row.ids) for row in batch))

    def of(self, rows: Sequence[Row]) -> np.ndarray:
        """Return the log-probabilities of measured rows."""
        return np.array([self.known[row] for row in rows], np.float64)


def measure(say: AnswerProbabilities, rows: Sequence[Row], batch_size: int) -> np.ndarray:
    """Return the log-probabilities of the rows, without gradients."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i].ids))
    found = np.zeros(len(rows))
    with torch.no_grad():
        for start in range(0, len(order), batch_size):
            places = order[start : start + batch_size]
            found[places] = say([rows[i] for i in places]).double().cpu().numpy()
    return found


class _BrokenError(Exception):
    """A number of this step is not finite."""


class PreferenceTrainer:
    """Learns an objective on a plan of batches; dropout stays off, as the reference has none."""

    def __init__(
        self,
        model: Any,
        objective: Objective,
        plan: Plan,
        references: References,
        say: AnswerProbabilities,
        held: Preferences,
        settings: TrainSettings,
        learning_rate: float,
        scratch: Path,
        key: str,
        task: Task,
        wish: Interruption,
    ) -> None:
        from transformers import get_scheduler

        self.model, self.objective, self.plan, self.references, self.say = model, objective, plan, references, say
        self.held, self.settings, self.learning_rate = held, settings, learning_rate
        self.scratch, self.key, self.task, self.wish = scratch, key, task, wish
        self.weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(self.weights, lr=learning_rate, weight_decay=settings.weight_decay)
        self.lr_scheduler = get_scheduler(
            settings.lr_scheduler_type, self.optimizer, round(settings.warmup_ratio * plan.steps), plan.steps
        )
        self.history = scratch / HISTORY
        self.step = 0
        self.notes: dict[str, Any] = {"best_step": None, "best_loss": None, "worse_in_a_row": 0, "train_s": 0.0}
        self.notes |= {"rolled_back": 0, "broken_after": None}

    @property
    def best_step(self) -> int:
        """The step whose weights are kept: the best on held-out answers, 0 for the model as it came, else the last."""
        best = self.notes["best_step"]
        return self.step if best is None else int(best)

    def run(self) -> None:
        """Learn from the start, or on from the newest whole checkpoint."""
        start = checkpoints.newest_checkpoint(self.scratch, self.key)
        if start is None:
            write_atomic(self.history, b"")
            self._validate({"step": 0, "tokens": 0})
            self._keep()  # where the first steps break, there is a way back
        else:
            self._restore(start)
        milestones = frozenset(self.plan.milestones(self.settings.eval_steps_fraction))
        self.task.advance(self.plan.tokens_until(self.step))
        while self.step < self.plan.steps and self.notes["worse_in_a_row"] < self.settings.early_stopping_patience:
            began = time.monotonic()
            try:
                row = self._learn()
                self.notes["train_s"] += time.monotonic() - began
                if keeps := self.step in milestones or self.wish.asked:
                    self._check()
                if self.step in milestones:
                    self._validate(row)
                else:
                    append_line(self.history, msgspec.json.encode(row))
            except _BrokenError:
                self._roll_back()
                continue
            if keeps:
                self._keep()
            if self.wish.asked:
                raise KeyboardInterrupt

    def rows(self) -> list[dict[str, Any]]:
        """Return the history so far."""
        return [json.loads(line) for line in read_journal(self.history)]

    def log_ratios(self, rows: Sequence[Row]) -> Tensor:
        """Return how much likelier the rows' answers are now than under the reference, in nats."""
        said = self.say(rows)
        return said - torch.tensor(self.references.of(rows), dtype=said.dtype, device=said.device)

    def _learn(self) -> dict[str, Any]:
        """Take one step and return its row of the history."""
        first = self.step * self.plan.accumulation
        batches = self.plan.batches[first : first + self.plan.accumulation]
        items = sum(len(batch) for batch in batches)
        total, margin = 0.0, 0.0
        self.optimizer.zero_grad(set_to_none=True)
        for batch in batches:
            loss, gap = self.objective.loss(batch, self.log_ratios)
            (loss / items).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach()) / items
            margin += gap * len(batch) / items
        norm = float(torch.nn.utils.clip_grad_norm_(self.weights, self.settings.max_grad_norm))
        if not (math.isfinite(total) and math.isfinite(norm)):
            raise _BrokenError
        rate = self.lr_scheduler.get_last_lr()[0]
        self.optimizer.step()
        self.lr_scheduler.step()
        self.step += 1
        tokens = self.plan.tokens_until(self.step)
        self.task.advance(tokens - self.plan.tokens_until(self.step - 1))
        self.task.note(f"loss {total:.3f}, reward margin {margin:.2f}")
        return {"step": self.step, "tokens": tokens, "loss": total, "reward_margin": margin, "learning_rate": rate}

    def _check(self) -> None:
        """Look before weights are kept: the update itself may have ruined them, and no later loss would tell."""
        with torch.no_grad():
            loss, _ = self.objective.loss(self.plan.batches[0], self.log_ratios)
        if not math.isfinite(float(loss)):
            raise _BrokenError

    def _validate(self, row: dict[str, Any]) -> None:
        """Measure the loss on held-out answers, note whether it is the best, and write the step's row."""
        answers = self.held.answers
        ratios = np.zeros(len(answers))
        if self.step and answers:
            found = measure(self.say, answers, self.settings.per_device_train_batch_size)
            ratios = found - self.references.of(answers)
        loss = self.objective.held_out_loss(self.held, ratios)
        if loss is not None:
            if not math.isfinite(loss):
                raise _BrokenError
            row["validation_loss"] = loss
            better = self.notes["best_loss"] is None or loss < self.notes["best_loss"]
            if better:
                self.notes |= {"best_step": self.step, "best_loss": loss, "worse_in_a_row": 0}
            else:
                self.notes["worse_in_a_row"] += 1
        append_line(self.history, msgspec.json.encode(row))

    def _keep(self) -> None:
        checkpoints.write_checkpoint(self.scratch, self.step, self.key, self.notes, self, {})
        checkpoints.prune_checkpoints(self.scratch, self.notes["best_step"])

    def _restore(self, start: checkpoints.Checkpoint) -> None:
        checkpoints.load_weights(self.model, start.folder)
        checkpoints.load_optimizer(self.optimizer, self.lr_scheduler, start.folder)
        self.step, self.notes = start.step, self.notes | start.notes
        rows = [row for row in self.rows() if row["step"] <= self.step]
        write_atomic(self.history, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))

    def _roll_back(self) -> None:
        """Return to the last good checkpoint and go on with half the learning rate, twice at most."""
        broken_after, times = self.step, self.notes["rolled_back"] + 1
        kept = checkpoints.newest_checkpoint(self.scratch, self.key)
        if kept is None or times > MAX_ROLLBACKS:
            raise ModelError(
                f"Learning from preferences diverged after step {broken_after:,}: the loss is not a finite number.",
                f"Lower learning_rate in [train.preference], now {self.learning_rate:g}.",
            )
        self._restore(kept)
        slow_down(self.optimizer, self.lr_scheduler, SLOWER ** (times - kept.notes.get("rolled_back", 0)))
        self.notes |= {"rolled_back": times, "broken_after": broken_after}
        self.optimizer.zero_grad(set_to_none=True)
