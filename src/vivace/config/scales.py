"""The table `[evaluate.scales]` of `vivace.toml`."""

from typing import Annotated

from pydantic import Field

from vivace.config.prune import Kept
from vivace.config.table import Count, Table

Positive = Annotated[float, Field(gt=0)]


class ScalesSettings(Table):
    """Which sizes of model are compared on the project's test questions, and what is wanted of them."""

    models: list[str] = []
    """Models as they are: names from `vivace models list`, Hugging Face names, model folders, GGUF files, providers of
    [models.providers]."""
    layers: list[Kept] = []
    """Shares of the layers that stay: the tuned model and these smaller ones of it. Empty: none of them."""
    heal_tokens: Annotated[int, Field(ge=0)] = 20_000
    """Training tokens with which each smaller one learns from the whole one. 0: none."""
    candidates: bool = False
    """Also compare the project's own candidates, as [compress] makes them."""
    max_examples: Count | None = None
    """Ask at most so many test questions. Empty: as [evaluate] says."""
    task: str = ""
    """Judge by the questions of this intent alone. Empty: by all."""
    min_gain: Positive = 0.01
    """Growth has stopped paying where a model twice as large brings less than this; 0.01 is a point of token F1."""
    quality: float | None = None
    """Quality that is wanted, on the scale of the metric in [release]. Empty: that of the best model."""
    margin: Annotated[float, Field(ge=0)] = 0.01
    """What a model may lose against the best and still be called as good, where no `quality` is named."""
    max_disk_mb: Positive | None = None
    """Largest model folder, in MB (10^6 bytes)."""
    max_memory_mb: Positive | None = None
    """Largest peak memory of the engine's process, in MB."""
    max_latency_ms: Positive | None = None
    """Longest median time for an answer as long as the references, one at a time."""
    max_cost: Positive | None = None
    """Highest cost of 1,000 answers, in the money of the prices below."""
    price_per_hour: Annotated[float, Field(ge=0)] | None = None
    """What an hour of this machine costs. Empty: no cost is told of models without a price per token."""
    price_per_million_tokens: dict[str, Positive] = {}
    """What a million tokens, read or written, costs of the models named here, instead of the machine's time."""
