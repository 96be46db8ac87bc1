"""What each kind of pruning costs the domain, by amount: what a plan is made from."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vivace.compress.prune import importance
from vivace.compress.prune.costs import Sensitivity
from vivace.compress.prune.decoder import Decoder, Shape, open_decoder
from vivace.compress.prune.layers import choose_layers, kept_count
from vivace.compress.prune.pruning import change
from vivace.compress.prune.sample import Sample, loss_of, read_sample
from vivace.compress.prune.sparsify import sparsify
from vivace.compress.prune.walk import domain_losses, inputs_of
from vivace.compress.prune.width import choose_width, masked
from vivace.config.prune import PruneSettings
from vivace.domain import Progress, SilentProgress
from vivace.errors import ConfigError
from vivace.stats import Floats
from vivace.train.quiet import quiet_libraries

SHARES = (0.9, 0.75, 0.5)
SPARSITIES = ("0.5", "2:4", "0.7")


def sensitivity(
    folder: Path,
    dataset: Path,
    settings: PruneSettings | None = None,
    *,
    system: str = "",
    max_length: int = 512,
    shares: Sequence[float] = SHARES,
    sparsities: Sequence[str] = SPARSITIES,
    progress: Progress | None = None,
) -> list[Sensitivity]:
    """Return the table of levers and amounts for a merged model folder, each measured by itself.

    `shares` apply to layers, channels and heads; `sparsities` are shares of zeros or patterns such as 2:4. Nothing is
    corrected or healed: these are the costs before.
    """
    chosen, shown = settings or PruneSettings(), progress or SilentProgress()
    with quiet_libraries():
        decoder = open_decoder(folder)
        sample = read_sample(dataset, folder, system, chosen, max_length)
        before = domain_losses(decoder, sample.held_out)
        table = _Table(decoder.parameters, before)
        _layers(decoder, sample, chosen, shares, table, shown)
        _width(decoder, sample, chosen, shares, table, shown)
        del decoder
        _weights(folder, sample, chosen, sparsities, table, shown)
    return table.rows


class _Table:
    def __init__(self, parameters: int, before: Floats) -> None:
        self.rows: list[Sensitivity] = []
        self._parameters, self._before = parameters, before

    def add(self, lever: str, amount: float, detail: str, after: Floats, gone: int) -> None:
        figures: dict[str, Any] = change(self._before, after)
        row = Sensitivity(
            lever=lever,
            amount=round(amount, 4),
            detail=detail,
            loss=round(loss_of(after), 6),
            loss_change=figures["loss_change"],
            interval=tuple(figures["interval"]),
            p_value=figures["p_value"],
            parameters=self._parameters - gone,
            saved=round(gone / self._parameters, 4),
        )
        self.rows.append(row)


def _layers(
    decoder: Decoder, sample: Sample, settings: PruneSettings, shares: Sequence[float], table: _Table, shown: Progress
) -> None:
    count = len(decoder.layers)
    amounts = sorted({kept_count(share, count) for share in shares} - {count}, reverse=True)
    if not amounts:
        return
    per_layer = [sum(part.numel() for part in layer.parameters()) for layer in decoder.layers]
    numbers = None if settings.layer_method == "loss" else importance.layer_numbers(decoder, sample.few)
    rounds = -(-(count - amounts[-1]) // settings.layers_per_round)
    with shown.task("Sensitivity of layers", total=rounds) as task:
        _, told = choose_layers(
            decoder,
            sample.few,
            amounts[-1],
            settings.layer_method,
            numbers,
            per_round=settings.layers_per_round,
            task=task,
        )
        order = [layer for each in told for layer in each["removed"]]
        for keep in amounts:
            if settings.layer_method == "loss":
                gone = set(order[: count - keep])
            else:
                gone = set(range(count)) - set(choose_layers(decoder, (), keep, settings.layer_method, numbers)[0])
            kept = [layer for layer in range(count) if layer not in gone]
            after = domain_losses(decoder, sample.held_out, kept)
            detail = f"without layers {', '.join(map(str, sorted(gone)))}"
            table.add("layers", keep / count, detail, after, sum(per_layer[layer] for layer in gone))


def _width(
    decoder: Decoder, sample: Sample, settings: PruneSettings, shares: Sequence[float], table: _Table, shown: Progress
) -> None:
    with shown.task("Sensitivity of heads and channels", total=1) as task:
        numbers = importance.width_numbers(decoder, sample.calibration, task)
    shape = decoder.shape
    for lever in ("channels", "heads"):
        seen = set()
        for share in shares:
            wanted: dict[str, Any] = {lever: share}
            try:
                width = choose_width(
                    decoder,
                    numbers,
                    method=settings.width_method,
                    unit=settings.head_unit,
                    multiple=settings.channel_multiple,
                    **wanted,
                )
            except ConfigError as reason:
                shown.say(f"Heads are left out of the sensitivity: {reason.message}")
                break
            counts = width.counts()
            kept, whole = counts[lever], getattr(shape, lever)
            if kept == whole or kept in seen:
                continue
            seen.add(kept)
            with inputs_of(*masked(decoder, width)):
                after = domain_losses(decoder, sample.held_out)
            table.add(lever, kept / whole, f"{kept} of {whole} a layer", after, _gone(decoder, shape, counts))


def _gone(decoder: Decoder, shape: Shape, counts: dict[str, int]) -> int:
    """Return how many parameters a narrower model lacks, biases included."""
    lost = {
        "q_proj": (shape.heads - counts["heads"]) * shape.head_dim,
        "k_proj": (shape.groups - counts["groups"]) * shape.head_dim,
        "gate_proj": shape.channels - counts["channels"],
    }
    lost |= {"o_proj": lost["q_proj"], "v_proj": lost["k_proj"], "qkv_proj": lost["q_proj"] + 2 * lost["k_proj"]}
    lost |= {"up_proj": lost["gate_proj"], "down_proj": lost["gate_proj"], "gate_up_proj": 2 * lost["gate_proj"]}
    gone = 0
    for layer in range(shape.layers):
        for name, part in decoder.linears(layer).items():
            kind = name.rsplit(".", 1)[-1]
            reads = kind in ("o_proj", "down_proj")  # columns go, and no bias with them
            gone += lost[kind] * (part.out_features if reads else part.in_features + (part.bias is not None))
    return gone


def _weights(
    folder: Path, sample: Sample, settings: PruneSettings, sparsities: Sequence[str], table: _Table, shown: Progress
) -> None:
    for amount in sparsities:
        pattern = amount if ":" in amount else "unstructured"
        decoder = open_decoder(folder)
        with shown.task(f"Sensitivity of weights ({amount})", total=len(decoder.layers)) as task:
            told = sparsify(
                decoder,
                sample.calibration,
                method=settings.weight_method,
                sparsity=0.0 if pattern != "unstructured" else float(amount),
                pattern=pattern,
                task=task,
            )
        after = domain_losses(decoder, sample.held_out)
        table.add("weights", told["zeros"], f"{settings.weight_method}, {pattern}", after, 0)
