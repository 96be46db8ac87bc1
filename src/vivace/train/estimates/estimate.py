"""Before training: how long, how much memory, what it costs; while it trains: how fast, and how long it still takes."""

import statistics
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from msgspec import Struct, structs

from vivace.config.train import TrainSettings
from vivace.domain import Model
from vivace.train.batches.plan import Plan
from vivace.train.batches.rows import Row
from vivace.train.estimates.flops import Shape, Work

if TYPE_CHECKING:
    from vivace.train.estimates.calibration import Rates

NEWEST = 3
"""So many earlier runs tell how fast this machine is."""
TIMED = 64
"""Rows are timed in multiples of so many tokens, so that plans which are nearly alike are timed once."""


class Estimate(Struct, frozen=True):
    """What a training run will take, as far as it can be known; None where it cannot.

    `flops` are those of all training steps, `step_flops` their sums after each step; `looks` counts the validations,
    the one before the first step included. `rate_from` says where the speed was taken from. Early stopping may end a
    run before all its `seconds`.
    """

    tokens: int
    steps: int
    looks: int = 0
    seconds: float | None = None
    rate_from: str = ""
    memory_bytes: int | None = None
    memory_free_bytes: int = 0
    flops: int | None = None
    limit_flops_per_s: float | None = None
    price_per_hour: float | None = None
    step_flops: tuple[int, ...] = ()

    @property
    def cost(self) -> float | None:
        """The price of the time, in whatever money `price_per_hour` is."""
        return None if self.seconds is None else cost(self.seconds, self.price_per_hour)

    @property
    def fits(self) -> bool:
        """Whether the memory is free."""
        return self.memory_bytes is None or self.memory_bytes <= self.memory_free_bytes

    @property
    def sentence(self) -> str:
        """The estimate in one line."""
        parts = [f"{self.tokens:,} tokens in {self.steps:,} steps"]
        if self.seconds is not None:
            parts.append(f"about {duration(self.seconds)} ({self.rate_from})")
        if self.memory_bytes is not None:
            free = f"{self.memory_free_bytes / 1e9:,.1f} GB free"
            parts.append(f"{self.memory_bytes / 1e9:,.1f} GB of memory of {free}")
        if self.cost is not None:
            parts.append(f"cost {money(self.cost)}")
        text = f"Training: {', '.join(parts)}."
        return text if self.fits else f"{text} That is more than is free: steps are computed in parts if that helps."

    def remark(self, step: int, tokens: int, train_s: float, looked: int, validate_s: float) -> str:
        """Return tokens per second, the share of the machine's limit and the time left after a step.

        `train_s` and `validate_s` are the seconds so far, `looked` counts the validations so far.
        """
        if step < 1 or train_s <= 0:
            return ""
        parts = [f"{tokens / train_s:,.0f} tokens/s"]
        share = self.utilization(step, train_s)
        if share is not None:
            parts.append(f"{share:.0%} of this machine's limit")
        done = self.step_flops[step - 1] / self.step_flops[-1] if self.step_flops else tokens / max(1, self.tokens)
        left = train_s * (1 / done - 1)
        if looked:
            left += max(0, self.looks - looked) * validate_s / looked
        return ", ".join([*parts, f"{duration(left)} left"])

    def utilization(self, step: int, train_s: float) -> float | None:
        """Return the model's operations per second as a share of the fastest multiplication (MFU), None if unknown."""
        if not self.limit_flops_per_s or not self.step_flops or step < 1 or train_s <= 0:
            return None
        return self.step_flops[step - 1] / train_s / self.limit_flops_per_s

    def outcome(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Return what a run came to beside its other facts: operations, utilization, cost, and what was estimated."""
        step, seconds = int(facts["steps"]), facts["seconds"]
        share = self.utilization(step, seconds["train"])
        told: dict[str, Any] = {"estimate": self.told()}
        if step and self.step_flops:
            told["flops"] = self.step_flops[step - 1]
        if share is not None and self.limit_flops_per_s:
            told |= {"flops_utilization": round(share, 4), "limit_flops_per_s": round(self.limit_flops_per_s)}
        price = cost(sum(seconds.values()), self.price_per_hour)
        return told if price is None else told | {"cost": price}

    def told(self) -> dict[str, Any]:
        """Return what is kept beside the run's figures."""
        names = ("tokens", "steps", "seconds", "rate_from", "memory_bytes", "flops")
        values = {name: getattr(self, name) for name in names} | {"cost": self.cost}
        return {name: value for name, value in values.items() if value not in (None, "")}


def estimate(
    rows: Sequence[Row],
    validation: Sequence[Row],
    plan: Plan,
    base: Model,
    settings: TrainSettings,
    *,
    rates: Sequence[float] = (),
) -> Estimate:
    """Return what training on a plan will take, without loading the base's weights.

    Operations are counted (`vivace.train.estimates.flops`), and the model's own shapes are timed for a moment. `rates`
    are the operations per second of earlier runs, the newest first: where there are any, they tell the time. Raises
    what training would for settings that do not fit the model.
    """
    from vivace.train import adapters, machine
    from vivace.train.estimates.calibration import measure
    from vivace.train.estimates.flops import skeleton, work_of
    from vivace.train.quiet import quiet_libraries

    on = machine.device()
    kind = machine.arithmetic(settings.dtype, on)
    looks = 1 + len(plan.milestones(settings.eval_steps_fraction)) if validation else 0
    price, free = settings.price_per_hour, machine.memory_free(on)
    plain = Estimate(plan.tokens, plan.steps, looks, memory_free_bytes=free, price_per_hour=price)
    with quiet_libraries():
        model = skeleton(base, settings)
    if model is None:
        return plain
    work = work_of(model, settings)
    shapes = batch_shapes(rows, plan, settings)
    checks = looks * work.total(_validation_shapes(validation, settings), backward=False)
    middle = statistics.median_low([shape.rows * shape.length for shape in shapes])
    typical = next(shape for shape in shapes if shape.rows * shape.length == middle)
    measured = measure(base.path, typical.rows, -(-typical.length // TIMED) * TIMED, on, kind, _threads())
    steps = _per_step([work.total([shape]) for shape in shapes], plan.accumulation)
    needed = machine.memory_needed(model, plan.longest_batch, adapters.depth(settings))
    newest = list(rates)[:NEWEST]
    # Each worker has a GPU of its own, or a copy of everything in the memory that all of them share.
    gpus, copies = (settings.workers, 1) if on == "cuda" else (1, settings.workers)
    return structs.replace(
        plain,
        seconds=(sum(steps) + checks) / statistics.median(newest)
        if newest
        else _seconds(work, shapes, plan.steps, checks, measured) / gpus,
        rate_from=f"as fast as {_counted(len(newest), 'earlier run')}" if newest else "timed on this machine",
        memory_bytes=copies * (weight_bytes(work, settings, on) + needed),
        flops=sum(steps),
        limit_flops_per_s=gpus * measured.limit_flops_per_s,
        step_flops=tuple(accumulate(steps)),
    )


def batch_shapes(rows: Sequence[Row], plan: Plan, settings: TrainSettings) -> list[Shape]:
    """Return the shape of every batch of a plan, as the collator will make it."""
    from vivace.train.batches.packing import pack

    lengths, learned = [len(row.ids) for row in rows], [row.learned for row in rows]
    shapes = []
    for batch in plan.batches:
        sizes = [lengths[i] for i in batch]
        if settings.packing:
            lines = pack(sizes, settings.max_length)
            shape = len(lines), max(sum(sizes[i] for i in line) for line in lines)
        else:
            shape = len(sizes), max(sizes)
        shapes.append(Shape(*shape, sum(learned[i] for i in batch)))
    return shapes


def weight_bytes(work: Work, settings: TrainSettings, on: str) -> int:
    """Return the memory of the weights as training holds them."""
    if settings.method == "qlora":
        return work.parameters // 2 + 4 * work.trained
    if on == "cuda" and settings.method != "full":
        return 2 * (work.parameters - work.trained) + 4 * work.trained
    return 4 * work.parameters


def cost(seconds: float, price_per_hour: float | None) -> float | None:
    """Return the price of so many seconds, None without a price."""
    return None if price_per_hour is None else round(price_per_hour * seconds / 3600, 6)


def money(amount: float) -> str:
    """Return an amount as people write it; it has no currency of its own."""
    return f"{amount:,.2f}" if amount >= 0.1 or not amount else f"{amount:.2g}"


def duration(seconds: float) -> str:
    """Return a time in the unit that people would say it in."""
    if seconds < 90:
        return f"{max(1.0, seconds):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:,.1f} h"


def rates_of(runs: Sequence[dict[str, Any]], *, device: str, dtype: str, method: str, workers: int = 1) -> list[float]:
    """Return the operations per second of earlier runs of the same kind, from their facts, in their order."""
    alike = {"device": device, "dtype": dtype, "method": method}
    return [
        facts["flops"] / facts["seconds"]["train"]
        for facts in runs
        if all(facts.get(name) == value for name, value in alike.items())
        and facts.get("workers", 1) == workers
        and facts.get("flops")
        and facts.get("seconds", {}).get("train")
    ]


def _seconds(work: Work, shapes: Sequence[Shape], steps: int, checks: int, measured: "Rates") -> float:
    """Return the time of all steps and validations from what was timed."""
    layers = sum(work.layers(shape) for shape in shapes) + checks
    # What was timed is the loss with the gradient of its input; trained weights of the head have one more.
    share = (work.forward_per_learned + work.backward_per_learned) / max(1, 2 * work.forward_per_learned)
    learned = sum(shape.learned for shape in shapes)
    return (
        layers / measured.layer_flops_per_s
        + measured.head_s_per_token * share * learned
        + measured.update_s_per_weight * work.trained * steps
    )


def _validation_shapes(rows: Sequence[Row], settings: TrainSettings) -> list[Shape]:
    size = 2 * settings.per_device_train_batch_size
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [Shape(len(part), max(len(row.ids) for row in part), sum(row.learned for row in part)) for part in parts]


def _per_step(batches: Sequence[int], accumulation: int) -> list[int]:
    return [sum(batches[start : start + accumulation]) for start in range(0, len(batches), accumulation)]


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _threads() -> int:
    import torch

    return torch.get_num_threads()
