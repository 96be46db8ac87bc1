"""How far a token's log-probability may move in each format: stated here, measured in docs/parity.md.

A bound holds for answers of up to 4 nats a token, as a trained model finds its reference answers. Far out in the tail
the same rounding moves a logarithm further, so beyond that a bound grows in proportion.
"""

from collections.abc import Mapping
from typing import get_args

from vivace.domain import Model, ModelFormat
from vivace.errors import ConfigError
from vivace.registry import nearest

# Mean distance to the source model in fp32, in nats a token. A format's own line wins over its weights'.
BOUNDS: dict[str, float] = {
    "fp32": 1e-4,
    "fp16": 0.02,
    "bf16": 0.06,
    "int8": 0.25,
    "int4": 0.9,
    "fp8": 0.5,
    "Q8_0": 0.15,
    "Q6_K": 0.3,
    "Q5_K_M": 0.4,
    "Q5_K_S": 0.4,
    "Q5_1": 0.4,
    "Q5_0": 0.4,
    "Q4_K_M": 0.6,
    "Q4_K_S": 0.7,
    "Q4_1": 0.9,
    "Q4_0": 0.9,
    "Q3_K_L": 1.2,
    "Q3_K_M": 1.2,
    "Q3_K_S": 1.5,
    "Q2_K": 2.0,
    "openvino-fp16": 0.01,
    "openvino-int8": 0.15,
    "onnx-int8": 0.25,
    "onnx-int4": 0.9,
}


LIKELY_NATS = 4.0


def stretched(limit: float, surprise: float) -> float:
    """Return a bound for answers of so many nats a token."""
    return limit * max(1.0, surprise / LIKELY_NATS)


def check_bounds(own: Mapping[str, float]) -> None:
    """Raise `ConfigError` for a bound of nothing that is known."""
    formats = get_args(ModelFormat)
    for name in own:
        kind = next((name.removeprefix(f"{each}-") for each in formats if name.startswith(f"{each}-")), name)
        if kind not in BOUNDS:
            raise ConfigError(f"[parity] bounds names {name!r}, which are no weights.", nearest(name, list(BOUNDS)))


def bound(model: Model, weights: str = "", own: Mapping[str, float] | None = None) -> float | None:
    """Return the bound for a model's format and weights; None where none is stated.

    `weights` are what the engine really computes in, if it says so; `own` are the user's bounds.
    """
    kind = weights or model.weights
    stated = {**BOUNDS, **(own or {})}
    return next((stated[name] for name in (f"{model.format}-{kind}", kind) if name in stated), None)
