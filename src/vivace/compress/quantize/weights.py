"""Four-bit weights of an OpenVINO graph, with NNCF: by the weights alone, or by what they multiply on given texts."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Struct

from vivace.errors import ModelError

INT4_GROUP_SIZE = 32
# 4 bits everywhere cost a model of this size 6-20 % perplexity; the most sensitive weights stay int8.
INT4_RATIO = 0.7

Method = Literal["none", "awq", "scale_estimation", "awq_scale_estimation", "gptq"]
Note = Callable[[str, float], None]
"""Is told what is done now, and what share of the work is behind."""

# Reading the texts takes about a third of the time on one core, by SmolLM2-135M; the rest is fitting.
_READING = 0.35
_OPTIONS: dict[str, dict[str, bool]] = {
    "none": {},
    "awq": {"awq": True},
    "scale_estimation": {"scale_estimation": True},
    "awq_scale_estimation": {"awq": True, "scale_estimation": True},
    "gptq": {"gptq": True},
}


class Plan(Struct, frozen=True):
    """How the weights of a graph become 4 bits; without `rows` (token ids of texts) nothing is looked at."""

    method: Method = "none"
    ratio: float = INT4_RATIO
    group_size: int = INT4_GROUP_SIZE
    rows: tuple[tuple[int, ...], ...] = ()

    def encode(self) -> bytes:
        """Return the plan as JSON."""
        return msgspec.json.encode(self)


def read_plan(content: bytes) -> Plan:
    """Return the plan that `Plan.encode` wrote."""
    return msgspec.json.decode(content, type=Plan)


def compress_int4(graph: Any, plan: Plan, note: Note) -> Any:
    """Return the graph with `plan.ratio` of its weights in asymmetric int4, the more sensitive ones in int8.

    Embeddings and output layer are int8 always. With rows, the sensitivity of a layer is its rounding error in 8 bits
    times how much its inputs vary; `awq` is Lin et al. 2023 (https://arxiv.org/abs/2306.00978) for the groups with the
    largest inputs, `gptq` is Frantar et al. 2022 (https://arxiv.org/abs/2210.17323).
    """
    import nncf

    # Where the channels do not divide into groups, smaller groups are taken.
    limits = nncf.AdvancedCompressionParameters(
        group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST, min_adjusted_group_size=16
    )
    compress = partial(
        nncf.compress_weights,
        graph,
        mode=nncf.CompressWeightsMode.INT4_ASYM,
        group_size=plan.group_size,
        ratio=plan.ratio,
        advanced_parameters=limits,
    )
    if not plan.rows:
        return compress()
    count = len(plan.rows)
    # Each looks at some of the rows only, unless told otherwise.
    for part in (limits.awq_params, limits.scale_estimation_params, limits.gptq_params):
        part.subset_size = count
    feeds = Feeds(plan.rows, note)
    _tell_steps(feeds)
    try:
        return compress(dataset=nncf.Dataset(feeds), subset_size=count, **_OPTIONS[plan.method])
    except (nncf.UnsupportedModelError, nncf.ValidationError, nncf.ParameterNotSupportedError) as error:
        told = str(error).splitlines()[0].rstrip(".")
        raise ModelError(
            f"The method {plan.method} cannot quantize this model: {told}.",
            "Choose another [compress.quantize] method.",
        ) from error


def int4_share(graph: Any) -> float:
    """Return the share of the matrices' weights that are stored in 4 bits."""
    sizes = {"u4": 0, "u8": 0}
    for node in graph.get_ops():
        kind = node.get_element_type().to_string() if node.get_type_name() == "Constant" else ""
        if kind in sizes and len(node.get_output_shape(0)) > 1:
            count = 1
            for size in node.get_output_shape(0):
                count *= int(size)
            sizes[kind] += count if int(node.get_output_shape(0)[-1]) > 1 else 0  # scales' zero points have 1 there
    return sizes["u4"] / max(1, sum(sizes.values()))


class Feeds:
    """Texts as inputs of a stateful graph; NNCF empties its caches before each."""

    def __init__(self, rows: tuple[tuple[int, ...], ...], note: Note) -> None:
        self.rows = rows
        self.note = note
        self.read = 0

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        import numpy as np

        for ids in self.rows:
            self.read += 1
            if self.read <= len(self.rows):
                self.note(f"reading text {self.read} of {len(self.rows)}", _READING * self.read / len(self.rows))
            yield {
                "input_ids": np.array([ids], np.int64),
                "attention_mask": np.ones((1, len(ids)), np.int64),
                "position_ids": np.arange(len(ids), dtype=np.int64)[None],
                "beam_idx": np.zeros(1, np.int32),
            }


def _tell_steps(feeds: Feeds) -> None:
    """Note each of NNCF's long steps, which it shows in bars of its own and has no callback for."""
    from nncf.common.logging.track_progress import track

    plain = track.__enter__

    def told(bar: Any) -> Any:
        if feeds.read:
            feeds.note(str(bar.description).lower(), _READING)
        return plain(bar)

    track.__enter__ = told
