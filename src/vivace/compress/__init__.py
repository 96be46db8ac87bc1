"""Fold an adapter into its model, and turn a model into what each engine reads fastest."""

from pathlib import Path

from vivace.compress import compressed_tensors, gguf, onnx, openvino
from vivace.compress.calibration import Calibration
from vivace.compress.facts import size_facts
from vivace.compress.merge import merge
from vivace.config.quantize import QuantizeSettings
from vivace.domain import Model, Progress
from vivace.errors import ConfigError
from vivace.registry import nearest

__all__ = ["CALIBRATED", "KINDS", "export", "merge", "size_facts"]

KINDS = {
    "openvino-int8": openvino.export,
    "openvino-int4": openvino.export,
    "openvino-fp16": openvino.export,
    "onnx-int4": onnx.export,
    "onnx-int8": onnx.export,
    **dict.fromkeys(gguf.KINDS, gguf.export),
    **dict.fromkeys(compressed_tensors.SCHEMES, compressed_tensors.export),
}
CALIBRATED = frozenset(
    {"openvino-int4", "onnx-int4", "gguf-q6_k", "gguf-q4_k_m", "gguf-q4_0", "compressed-w8a8", "compressed-w4a16"}
)
"""The kinds that look at conversations."""


def export(
    model: Model,
    kind: str,
    out: Path,
    progress: Progress,
    settings: QuantizeSettings | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """Export a Hugging Face model to the folder `out`, which appears whole or not at all.

    The kinds in `CALIBRATED` look at `calibration`, if there is one.

    Raises `ConfigError` for an unknown kind, `ModelError` with the reason for a model that cannot be exported so.
    """
    if kind not in KINDS:
        raise ConfigError(f"There is no export {kind!r}.", nearest(kind, list(KINDS)))
    return KINDS[kind](model, kind, out, progress, settings, calibration)
