"""The chat trainer with a teacher beside it."""

from typing import Any

import torch
from torch import Tensor

from vivace.train.batches.packing import collate
from vivace.train.batches.rows import IGNORED
from vivace.train.distillation.lesson import Lesson, key_of
from vivace.train.distillation.loss import Apart, distill_loss
from vivace.train.distillation.sampling import OwnAnswers
from vivace.train.distillation.teacher import Teacher, spoken
from vivace.train.trainer import ChatTrainer
from vivace.train.workers.group import Group


class Tally:
    """Sums over tokens, of those the student wrote itself apart: they have no cross entropy."""

    def __init__(self) -> None:
        self.tokens, self.sampled, self.cross_entropy, self.divergence, self.agreed = 0, 0, 0.0, 0.0, 0

    def add(self, apart: Apart, tokens: int, *, sampled: bool) -> None:
        """Count a batch."""
        self.tokens += tokens
        self.sampled += tokens if sampled else 0
        self.cross_entropy += 0.0 if sampled else apart.cross_entropy
        self.divergence += apart.divergence
        self.agreed += apart.agreed

    def figures(self, group: Group) -> dict[str, float]:
        """Return the parts of the loss per token, of all workers together."""
        sums = (self.tokens, self.sampled, self.cross_entropy, self.divergence, self.agreed)
        tokens, sampled, cross_entropy, divergence, agreed = group.sum(sums)
        figures = {"divergence": divergence / max(1, tokens), "teacher_agreement": agreed / max(1, tokens)}
        if sampled:
            figures["sampled"] = sampled / tokens
        if tokens > sampled:
            figures["cross_entropy"] = cross_entropy / (tokens - sampled)
        return figures


class DistillTrainer(ChatTrainer):
    """Learns the teacher's distribution on the learned tokens, beside the tokens themselves.

    The course goes by the loss that is learned; history rows tell the cross entropy as `validation_loss`, as
    everywhere, and beside it `validation_objective`.
    """

    def __init__(self, *, lesson: Lesson, dtype: str, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.lesson = lesson
        self.teacher = Teacher(lesson.teacher, dtype, self.args.device.type)
        self.own_answers = OwnAnswers(lesson, self.pad_id) if lesson.lmbda else None
        self.baked = {key_of(student.ids, student.labels): teacher for student, teacher in lesson.baked}
        self.tally = Tally()
        self.counting = False
        self.step_tokens: int | None = None

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Tensor | int | None = None) -> Tensor:
        """Let the student answer a step's prompts itself, if it is its turn, and learn."""
        step, self.step_tokens = self.state.global_step, None
        if self.own_answers is not None and self.own_answers.wanted(step):
            writer = self.accelerator.unwrap_model(self.network)
            with self.accelerator.autocast():
                inputs = [
                    self.own_answers.replace(writer, self._prepare_inputs(batch), (step, self.group.rank, place))
                    for place, batch in enumerate(inputs)
                ]
            own = sum(int((batch["labels"][:, 1:] != IGNORED).sum()) for batch in inputs)
            self.step_tokens = int(self.group.sum([own])[0])
        return super().training_step(model, inputs, num_items_in_batch)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return this micro-batch's part of the mean loss; tokens that the student wrote are counted as such."""
        return super().compute_loss(model, inputs, return_outputs, self.step_tokens or num_items_in_batch)

    def validation_figures(self) -> tuple[float, float]:
        """Return the learned loss and token accuracy per token; the history tells its parts."""
        training, self.tally, self.counting = self.tally, Tally(), True
        loss, accuracy = super().validation_figures()
        found = self.tally.figures(self.group)
        self.tally, self.counting = training, False
        cross_entropy = found.pop("cross_entropy")
        told = {f"validation_{name}": value for name, value in found.items()} | {"validation_objective": loss}
        self.course.add(told | {"validation_loss": cross_entropy})
        return loss, accuracy

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the loss to the step's row."""
        if "loss" in logs:
            self.course.add(self.tally.figures(self.group))
            self.tally = Tally()
        super().log(logs, start_time)

    def _measure(self, model: Any, inputs: dict[str, Any], smoothing: float = 0.0) -> tuple[Tensor, int, int]:
        """Return the summed loss, how many tokens were guessed and how many are learned."""
        given = dict(inputs)
        labels, shares = given.pop("labels"), given.pop("shares", None)
        sampled = given.pop("sampled", None) is not None
        following = labels[:, 1:]
        learned = following != IGNORED
        with self.accelerator.autocast():
            student = spoken(self._bare(model), self.plain_head, given, labels)
            teacher = self.teacher.says(*self._read(given, labels))
        weights = None
        if shares is not None:
            weights = (shares[:, None].expand_as(following) if shares.dim() == 1 else shares[:, 1:])[learned]
        apart = distill_loss(
            student,
            teacher,
            following[learned],
            self.lesson.divergence,
            alpha=self.lesson.alpha,
            shares=weights,
            smoothing=smoothing,
            sampled=sampled,
        )
        tokens = int(learned.sum())
        if self.counting or torch.is_grad_enabled():
            self.tally.add(apart, tokens, sampled=sampled)
        return apart.loss, apart.right, tokens

    def _read(self, given: dict[str, Tensor], labels: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Return what the teacher reads: the same, or each conversation after the prompt that only it sees."""
        if not self.baked:
            return given, labels
        rows = []
        for ids, mask, said in zip(given["input_ids"], given["attention_mask"].bool(), labels, strict=True):
            row = self.baked[key_of(ids[mask].tolist(), said[mask].tolist())]
            rows.append({"input_ids": row.ids, "labels": row.labels, "share": 1.0})
        batch = {name: value.to(labels.device) for name, value in collate(rows, self.pad_id).items()}
        return batch, batch.pop("labels")
