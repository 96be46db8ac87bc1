"""Prune a merged model in the right order, measure what each step costs the domain, and write it all down."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vivace.compress.prune import importance
from vivace.compress.prune.correction import narrow_with_correction
from vivace.compress.prune.decoder import Decoder, open_decoder
from vivace.compress.prune.importance import LayerNumbers, WidthNumbers
from vivace.compress.prune.layers import choose_layers, kept_count
from vivace.compress.prune.sample import Sample, loss_of, read_sample
from vivace.compress.prune.sparsify import sparsify
from vivace.compress.prune.walk import domain_losses
from vivace.compress.prune.width import choose_width, narrow
from vivace.config.prune import PruneSettings
from vivace.domain import Model, Progress
from vivace.errors import ConfigError, ModelError
from vivace.models import size_bytes
from vivace.models.depth import keep_layers
from vivace.stats import Floats, mean_of_rows, paired_bootstrap_rows, paired_permutation_rows
from vivace.train.quiet import quiet_libraries

REPORT = "prune.json"
IMPORTANCE = "importance.json"
JOURNAL = "rounds.jsonl"


def prune(
    model: Model,
    dataset: Path,
    out: Path,
    settings: PruneSettings,
    *,
    system: str = "",
    max_length: int = 512,
    scratch: Path | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """Write the pruned model to the folder `out` and return the facts: layers first, then width, then single weights.

    `out` is a Hugging Face folder that transformers loads, with `prune.json` (each step, with the domain loss before
    and after and the paired interval) and `importance.json`. Importance is taken from train conversations, the loss is
    that of others. What is noted in `scratch` is not measured again after an interruption. Raises `ModelError` for
    models that are no Llama-like decoders, `ConfigError` for settings that leave nothing to do or cannot be met.
    """
    if model.format != "hf":
        raise ModelError(f"{model.name} is in format {model.format!r}; a merged Hugging Face model is pruned.")
    if not settings.is_on:
        raise ConfigError("[compress.prune] removes nothing.", "Set layers, heads, channels, sparsity or pattern.")
    with quiet_libraries():
        run = _Run(model, dataset, settings, system, max_length, scratch, progress)
        run.layers()
        run.width()
        run.weights()
        return run.write(out)


class _Run:
    """One model on its way through the steps."""

    def __init__(
        self,
        model: Model,
        dataset: Path,
        settings: PruneSettings,
        system: str,
        max_length: int,
        scratch: Path | None,
        progress: Progress,
    ) -> None:
        self.source = model.path
        self.settings = settings
        self.progress = progress
        with progress.task("Opening the model to prune"):
            self.decoder: Decoder = open_decoder(model.path)
            self.sample: Sample = read_sample(dataset, model.path, system, settings, max_length)
        self.journal = None if scratch is None else scratch / JOURNAL
        self.parameters = self.decoder.parameters
        self.first = self.before = self._measure()
        self.steps: list[dict[str, Any]] = []
        self.layer_numbers: LayerNumbers | None = None
        self.width_numbers: WidthNumbers | None = None

    def layers(self) -> None:
        """Leave layers out."""
        settings, decoder = self.settings, self.decoder
        count = len(decoder.layers)
        keep = kept_count(settings.layers, count)
        if keep == count:
            self._nothing(settings.layers, "layers", f"{settings.layers:g} of {count} layers is all of them")
            return
        with self.progress.task("Measuring each layer", total=1) as task:
            self.layer_numbers = importance.layer_numbers(decoder, self.sample.few, task)
        rounds = -(-(count - keep) // settings.layers_per_round) if settings.layer_method == "loss" else 1
        with self.progress.task("Choosing layers", total=rounds) as task:
            kept, told = choose_layers(
                decoder,
                self.sample.few,
                keep,
                settings.layer_method,
                self.layer_numbers,
                per_round=settings.layers_per_round,
                journal=self.journal,
                task=task,
            )
        removed = [layer for layer in range(count) if layer not in kept]
        self._step(
            "layers",
            lambda: keep_layers(decoder.model, kept),
            {"kept": kept, "removed": removed, "method": settings.layer_method, "rounds": told},
        )

    def width(self) -> None:
        """Take heads and channels out."""
        settings, decoder = self.settings, self.decoder
        if settings.heads == 1 and settings.channels == 1:
            return
        with self.progress.task("Measuring heads and channels", total=1) as task:
            numbers = self.width_numbers = importance.width_numbers(decoder, self.sample.calibration, task)
        before = decoder.shape
        width = choose_width(
            decoder,
            numbers,
            heads=settings.heads,
            channels=settings.channels,
            method=settings.width_method,
            unit=settings.head_unit,
            multiple=settings.channel_multiple,
        )
        had = {"heads": before.heads, "groups": before.groups, "channels": before.channels}
        if width.counts() == had:
            self._nothing(0, "heads and channels", "the shares keep all of them")
            return

        def work() -> None:
            if not settings.correct:
                narrow(decoder, width)
                return
            with self.progress.task("Narrowing the layers", total=before.layers) as task:
                narrow_with_correction(decoder, width, self.sample.calibration, task)

        told = {"method": settings.width_method, "corrected": settings.correct, "had": had, "has": width.counts()}
        self._step("width", work, told | {"heads": width.heads, "groups": width.groups})

    def weights(self) -> None:
        """Zero single weights."""
        settings = self.settings
        if not settings.zeroes_weights:
            return
        told: dict[str, Any] = {}

        def work() -> None:
            with self.progress.task("Zeroing weights", total=len(self.decoder.layers)) as task:
                told.update(
                    sparsify(
                        self.decoder,
                        self.sample.calibration,
                        method=settings.weight_method,
                        sparsity=settings.sparsity,
                        pattern=settings.pattern,
                        task=task,
                    )
                )

        self._step("weights", work, told)

    def write(self, out: Path) -> dict[str, Any]:
        """Write the folder and return the facts."""
        if not self.steps:
            raise ConfigError(
                f"[compress.prune] removes nothing of {self.source.name}.", "Lower layers, heads or channels."
            )
        total = self._change(self.first, self.before)
        facts = {
            "parameters_before": self.parameters,
            "parameters": self.decoder.parameters,
            "size_bytes_before": size_bytes(self.source),
            **total,
            **self.sample.facts,
        }
        numbers = importance.to_json(self.layer_numbers, self.width_numbers)
        report = json.dumps({"facts": facts, "steps": self.steps}, indent=1, sort_keys=True).encode()
        with self.progress.task("Writing the pruned model"):
            self.decoder.save(self.source, out, {REPORT: report + b"\n", IMPORTANCE: numbers})
        named = (
            "step",
            "parameters",
            "loss_before",
            "loss",
            "loss_change",
            "interval",
            "removed",
            "had",
            "has",
            "zeros",
            "engines",
        )
        short = [{key: step[key] for key in named if key in step} for step in self.steps]
        return facts | {"size_bytes": size_bytes(out), "steps": short}

    def _step(self, name: str, work: Callable[[], None], told: dict[str, Any]) -> None:
        work()
        after = self._measure()
        figures = self._change(self.before, after)
        self.steps.append({"step": name, "parameters": self.decoder.parameters, **figures, **told})
        low, high = figures["interval"]
        self.progress.say(
            f"Pruned {name}: {self.decoder.parameters / 1e6:,.1f} of {self.parameters / 1e6:,.1f} M parameters, "
            f"domain loss {figures['loss_before']:.3f} → {figures['loss']:.3f} ({low:+.3f} to {high:+.3f})."
        )
        self.before = after

    def _measure(self) -> Floats:
        with self.progress.task("Measuring the domain loss"):
            return domain_losses(self.decoder, self.sample.held_out)

    @staticmethod
    def _change(before: Floats, after: Floats) -> dict[str, Any]:
        return {
            "loss_before": round(loss_of(before), 6),
            "loss": round(loss_of(after), 6),
            **change(before, after),
        }

    def _nothing(self, asked: float, what: str, reason: str) -> None:
        if asked < 1:
            self.progress.say(f"No {what} are removed: {reason}.")


def change(before: Floats, after: Floats) -> dict[str, Any]:
    """Return the change of loss per answer token with its paired 95 % interval over conversations, and the p-value."""
    interval = paired_bootstrap_rows(after, before, mean_of_rows)
    return {
        "loss_change": round(loss_of(after) - loss_of(before), 6),
        "interval": [round(interval.low, 6), round(interval.high, 6)],
        "p_value": round(paired_permutation_rows(after, before, mean_of_rows), 6),
    }
