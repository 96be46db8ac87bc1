"""The table `[compress.quantize]`: how few bits find their scales."""

from typing import Annotated, Literal

from pydantic import Field

from vivace.config.table import Count, Table


class QuantizeSettings(Table):
    """What 4-bit exports look at, and how; 8 bits lose next to nothing without looking."""

    calibration: Annotated[str, Field(pattern=r"^(none|domain|file:.+)$")] = "domain"
    """What is looked at: conversations of the train split (`domain`), the paragraphs of a text file (file:PATH), or
    nothing."""
    examples: Count = 32
    """So many conversations or paragraphs are looked at."""
    method: Literal["none", "awq", "scale_estimation", "awq_scale_estimation", "gptq"] = "awq_scale_estimation"
    """What `openvino-int4` does with them: shift scale from activations to weights, fit the scales of the weights to
    what they multiply, both, or round one column after the other and let the next ones make up for it."""
    ratio: Annotated[float, Field(gt=0, le=1)] = 0.7
    """Share of the weights that `openvino-int4` stores in 4 bits; the most sensitive others stay int8."""
    group_size: Literal[16, 32, 64, 128] = 32
    """So many weights of `openvino-int4` share a scale."""
    seed: int = 0
    """Seed of the choice of conversations."""
