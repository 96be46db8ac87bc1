"""The table `[compress.prune]` of `vivace.toml`."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from vivace.config.table import Count, Table

Kept = Annotated[float, Field(gt=0, le=1)]


class PruneSettings(Table):
    """What the tuned model may lose: the pruned model becomes a candidate of its own beside the whole one."""

    layers: Kept = 1.0
    """Share of the layers that stay."""
    layer_method: Literal["loss", "angular", "influence"] = "loss"
    """How layers are chosen: by the domain loss without them, by the angle over a block, by their own influence."""
    layers_per_round: Count = 2
    """Remove so many layers before measuring again, for `loss`; more is faster."""
    layer_examples: Count = 12
    """So many of `examples` judge layers: that takes many passes."""
    heads: Kept = 1.0
    """Share of the attention heads that stay in each layer."""
    head_unit: Literal["group", "head"] = "group"
    """`group` removes query heads with the keys and values they share, `head` query heads alone, as many per group."""
    channels: Kept = 1.0
    """Share of the feed-forward channels that stay in each layer."""
    channel_multiple: Count = 32
    """Round the number of channels to a multiple of this."""
    width_method: Literal["taylor", "activation"] = "taylor"
    """How heads and channels are judged: activation times gradient, or the norm of what they write."""
    correct: bool = True
    """Let what stays in a layer make up for what went, by least squares."""
    sparsity: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of single weights that become zero. Files stay as large, and no engine is faster by itself."""
    pattern: Annotated[str, Field(pattern=r"^(unstructured|[1-9]\d?:[1-9]\d?)$")] = "unstructured"
    """N:M keeps N of every M weights, such as 2:4, whatever `sparsity` says."""
    weight_method: Literal["magnitude", "wanda", "sparsegpt"] = "sparsegpt"
    """How single weights are chosen; `sparsegpt` also adjusts those that stay."""
    heal_tokens: Annotated[int, Field(ge=0)] = 20_000
    """Training tokens with which the pruned model then learns from the whole one, by logits, all weights. 0: none."""
    heal_learning_rate: Annotated[float, Field(gt=0)] | None = None
    """Peak learning rate of healing. Empty: that of `[train.distill]`."""
    examples: Count = 64
    """Train conversations that importance is taken from."""
    held_out: Count = 48
    """Other conversations that the loss is measured on, of the validation split if it has enough."""
    seed: int = 0
    """Seed of the choice of conversations."""

    @model_validator(mode="after")
    def _pattern_leaves_something_out(self) -> "PruneSettings":
        if self.pattern != "unstructured":
            kept, of = map(int, self.pattern.split(":"))
            if kept >= of:
                raise ValueError(f"pattern {self.pattern} leaves nothing out: N of every M weights stay, N below M")
        return self

    @property
    def heals(self) -> bool:
        """Whether the pruned model is trained again; zeros among its weights would not stay."""
        return self.heal_tokens > 0 and not self.zeroes_weights

    @property
    def zeroes_weights(self) -> bool:
        """Whether single weights become zero."""
        return self.sparsity > 0 or self.pattern != "unstructured"

    @property
    def is_on(self) -> bool:
        """Whether anything is asked for."""
        return min(self.layers, self.heads, self.channels) < 1 or self.zeroes_weights
