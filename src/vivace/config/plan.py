"""The tables `[[compress.plans]]`: further ways to make the tuned model small."""

from typing import Annotated, Literal

from pydantic import Field

from vivace.config.prune import PruneSettings
from vivace.config.table import Table
from vivace.config.trim import TrimSettings

Export = Literal[
    "openvino-int8",
    "openvino-int4",
    "openvino-fp16",
    "onnx-int4",
    "onnx-int8",
    "gguf-f16",
    "gguf-q8_0",
    "gguf-q6_k",
    "gguf-q4_k_m",
    "gguf-q4_0",
    "compressed-w8a8",
    "compressed-w4a16",
]
FOR_GPU_SERVERS: frozenset[Export] = frozenset({"compressed-w8a8", "compressed-w4a16"})
"""Exports that other servers serve from a GPU: they are made, and are no candidates here."""


class PlanSettings(Table):
    """What is done to the tuned model, in this order: prune, heal, trim, export. Each export becomes a candidate."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,31}$")]
    """First part of the candidates' names, such as half in half-openvino-int8."""
    prune: PruneSettings = PruneSettings()
    """Leave out layers, heads, channels or single weights, and heal what is left."""
    trim: TrimSettings = TrimSettings()
    """A smaller vocabulary."""
    exports: list[Export] | None = None
    """Format and weights of each candidate. Empty: those of [compress]."""
