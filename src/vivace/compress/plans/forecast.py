"""What each mix of levers is foreseen to come to, from the sensitivity of each and the measured exports."""

import itertools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from msgspec import Struct

from vivace.compress.plans.goals import Goals
from vivace.compress.prune.costs import Sensitivity

LAYERS = (1.0, 0.9, 0.75, 0.67, 0.5, 0.4, 0.33)
CHANNELS = (1.0, 0.75, 0.5)
KEPT = (1.0, 0.25, 0.1)
FIXED_SHARE = 0.1
"""Part of a token's time that no weight is read in, before it is measured."""
_LAYER = re.compile(r"\.layers\.\d+\.")


class Weights(Struct, frozen=True):
    """Where a decoder's parameters are. `embedding` is the input's, `head` the output's, 0 where it is the same."""

    layers: int
    attention: int
    channels: int
    embedding: int
    head: int
    other: int

    @property
    def total(self) -> int:
        """All of them."""
        return self.attention + self.channels + self.embedding + self.head + self.other


class Draft(Struct, frozen=True):
    """A mix of levers: shares of layers, feed-forward channels and vocabulary that stay, and the export."""

    layers: float
    channels: float
    keep: float
    export: str

    @property
    def changes(self) -> bool:
        """Whether anything is taken from the model besides its weights' bits."""
        return min(self.layers, self.channels, self.keep) < 1

    @property
    def prunes(self) -> bool:
        """Whether layers or channels are taken, so that there is something to heal."""
        return min(self.layers, self.channels) < 1

    @property
    def told(self) -> str:
        """Say it in a few words."""
        parts = [
            f"{share:.0%} of the {name}"
            for name, share in (("layers", self.layers), ("channels", self.channels), ("vocabulary", self.keep))
            if share < 1
        ]
        return ", ".join([*parts, self.export])


class Anchor(Struct, frozen=True):
    """An export of the tuned model, measured: bytes, seconds for one output token, loss above the best one's (nats)."""

    export: str
    size_bytes: int
    token_s: float
    loss: float = 0.0


class Forecast(Struct, frozen=True):
    """What a draft is foreseen to come to; `loss` is in nats per answer token, before healing."""

    draft: Draft
    parameters: int
    size_bytes: int
    speedup: float
    loss: float


def read_weights(folder: Path) -> Weights:
    """Count the parameters of a Hugging Face folder by what they belong to, without loading them."""
    from safetensors import safe_open

    found: dict[str, int] = dict.fromkeys(("attention", "channels", "embedding", "head", "other"), 0)
    layers = set()
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="numpy") as file:
            for name in file.keys():  # noqa: SIM118 - no mapping
                count = 1
                for size in file.get_slice(name).get_shape():
                    count *= size
                found[_part(name)] += count
                if inner := re.search(r"\.layers\.(\d+)\.", name):
                    layers.add(int(inner[1]))
    return Weights(layers=len(layers), **found)


def forecast(
    weights: Weights,
    sensitivities: Sequence[Sensitivity],
    anchors: Sequence[Anchor],
    *,
    fixed_share: float = FIXED_SHARE,
) -> list[Forecast]:
    """Return what every mix is foreseen to come to, the least loss first.

    A token's time is taken to follow the parameters that are read for it, but for `fixed_share`; losses of levers are
    added up.
    """
    curves = {lever: _curve(sensitivities, lever) for lever in ("layers", "channels")}
    made = []
    reference = anchors[0]
    for anchor in anchors:
        for layers, channels, keep in itertools.product(LAYERS, CHANNELS, KEPT):
            kept_layers = max(1, round(weights.layers * layers)) / max(1, weights.layers)
            parameters = _parameters(weights, kept_layers, channels, keep)
            share = _read(weights, kept_layers, channels, keep) / _read(weights, 1, 1, 1)
            seconds = anchor.token_s * (fixed_share + (1 - fixed_share) * share)
            loss = _at(curves["layers"], layers) + _at(curves["channels"], channels)
            made.append(
                Forecast(
                    Draft(layers, channels, keep, anchor.export),
                    parameters,
                    round(anchor.size_bytes * parameters / weights.total),
                    reference.token_s / seconds,
                    loss + anchor.loss,
                )
            )
    return sorted(made, key=lambda each: (round(each.loss, 6), each.draft.keep < 1, -each.draft.keep, each.size_bytes))


def meets(found: Forecast, goals: Goals) -> bool:
    """Tell whether a forecast keeps the limits of size, parameters and speed."""
    return (
        found.speedup >= goals.speedup * 0.999
        and (goals.max_size_bytes is None or found.size_bytes <= goals.max_size_bytes)
        and (goals.max_parameters is None or found.parameters <= goals.max_parameters)
    )


def correct(fixed_share: float, foreseen: float, measured: float) -> float:
    """Return the fixed share with which a speedup that was foreseen would have been foreseen as it was measured.

    With r the share of parameters read, 1 / speedup = fixed + (1 - fixed) r.
    """
    share = (1 / foreseen - fixed_share) / (1 - fixed_share)
    if share >= 1:
        return fixed_share
    return min(0.95, max(0.0, (1 / measured - share) / (1 - share)))


def _part(name: str) -> str:
    if _LAYER.search(name):
        return "channels" if ".mlp." in name else "attention"
    if "lm_head" in name:
        return "head"
    return "embedding" if "embed_tokens" in name else "other"


def _parameters(weights: Weights, layers: float, channels: float, keep: float) -> int:
    inner = layers * (weights.attention + channels * weights.channels)
    return round(inner + keep * (weights.embedding + weights.head) + weights.other)


def _read(weights: Weights, layers: float, channels: float, keep: float) -> float:
    """Return the parameters that one output token takes: of the input embedding a row, of the output's all."""
    return layers * (weights.attention + channels * weights.channels) + keep * (weights.head or weights.embedding)


def _curve(rows: Sequence[Sensitivity], lever: str) -> Mapping[float, float]:
    points = {row.amount: max(0.0, row.loss_change) for row in rows if row.lever == lever}
    return {1.0: 0.0, **points}


def _at(curve: Mapping[float, float], amount: float) -> float:
    """Return the loss at a share that stays, along straight lines between the measured ones and on beyond the last."""
    points = sorted(curve.items(), reverse=True)
    if len(points) == 1:
        return 0.0 if amount >= 1 else 1e3 * (1 - amount)  # never measured: last of all
    for (high, above), (low, below) in itertools.pairwise(points):
        if amount >= low or (low, below) == points[-1]:
            return above + (below - above) * (high - amount) / (high - low)
    return points[-1][1]
