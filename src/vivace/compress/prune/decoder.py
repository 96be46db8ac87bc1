"""The parts of a Llama-like decoder that can be removed, found by looking at its modules."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from vivace.compress.folder import furnish, read_config, whole_folder
from vivace.errors import ModelError
from vivace.models import check_data_only, load_causal_lm

QUERY_KEY_VALUE = ({"q_proj", "k_proj", "v_proj"}, {"qkv_proj"})
GATE_UP = ({"gate_proj", "up_proj"}, {"gate_up_proj"})
HINT = "Llama, SmolLM, Mistral, Qwen2, Qwen3, Gemma and Phi-3 decoders can be pruned; leave [compress.prune] out."


@dataclass(frozen=True)
class Shape:
    """How wide and deep a decoder is; `heads` are query heads, `groups` those of keys and values."""

    layers: int
    heads: int
    groups: int
    head_dim: int
    channels: int
    hidden: int

    @property
    def heads_per_group(self) -> int:
        """How many query heads read the same keys and values."""
        return self.heads // self.groups


class Decoder:
    """A loaded decoder whose layers are known piece by piece; weights are float32 and frozen."""

    def __init__(self, model: Any, name: str) -> None:
        self.model = model
        self.name = name
        self.config = model.config
        self.trunk = model.base_model
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        if self.config is not self.config.get_text_config() or not isinstance(
            getattr(self.trunk, "layers", None), nn.ModuleList
        ):
            raise self._refusal("it is no plain decoder with a list of layers")
        for number, layer in enumerate(self.layers):
            self._check_layer(number, layer)

    @property
    def layers(self) -> nn.ModuleList:
        """The decoder layers, first to last."""
        found: nn.ModuleList = self.trunk.layers
        return found

    @property
    def shape(self) -> Shape:
        """What the weights themselves say about width and depth."""
        heads = int(self.config.num_attention_heads)
        output, down = self.output(0), self.down(0)
        return Shape(
            layers=len(self.layers),
            heads=heads,
            groups=int(self.config.num_key_value_heads or heads),
            head_dim=output.in_features // heads,
            channels=down.in_features,
            hidden=down.out_features,
        )

    @property
    def parameters(self) -> int:
        """How many numbers the model holds, tied ones once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def output(self, layer: int) -> nn.Linear:
        """Return the matrix that reads a layer's heads."""
        found: nn.Linear = self.layers[layer].get_submodule("self_attn.o_proj")  # type: ignore[assignment]
        return found

    def down(self, layer: int) -> nn.Linear:
        """Return the matrix that reads a layer's feed-forward channels."""
        found: nn.Linear = self.layers[layer].get_submodule("mlp.down_proj")  # type: ignore[assignment]
        return found

    def linears(self, layer: int) -> dict[str, nn.Linear]:
        """Return every matrix of a layer by its name in it."""
        return {name: part for name, part in self.layers[layer].named_modules() if isinstance(part, nn.Linear)}

    def save(self, source: Path, out: Path, notes: dict[str, bytes] | None = None) -> None:
        """Write a Hugging Face folder, whole or not at all: tokenizer of `source`, `notes` as further files."""
        with whole_folder(out) as aside:
            self.model.save_pretrained(aside, safe_serialization=True)
            for path in aside.glob("*.safetensors"):
                path.chmod(0o644)
            furnish(aside, source, read_config(aside))
            for name, content in (notes or {}).items():
                (aside / name).write_bytes(content)

    def _check_layer(self, number: int, layer: nn.Module) -> None:
        names = {name for name, part in layer.named_modules() if isinstance(part, nn.Linear)}
        attention = {name.removeprefix("self_attn.") for name in names if name.startswith("self_attn.")}
        feed_forward = {name.removeprefix("mlp.") for name in names if name.startswith("mlp.")}
        known = (
            len(attention) + len(feed_forward) == len(names)
            and any(attention == {"o_proj", *read} for read in QUERY_KEY_VALUE)
            and any(feed_forward == {"down_proj", *read} for read in GATE_UP)
        )
        if not known:
            held = ", ".join(sorted(names)) or "none that is known"
            raise self._refusal(f"its layer {number} has other matrices than a Llama's ({held})")

    def _refusal(self, reason: str) -> ModelError:
        return ModelError(f"{self.name} ({type(self.model).__name__}) cannot be pruned: {reason}.", HINT)


def open_decoder(folder: Path) -> Decoder:
    """Load a Hugging Face folder in float32 to prune it.

    Raises `ModelError` when it is no Llama-like decoder, or computes something between its layers that is not known.
    """
    from vivace.compress.prune.walk import check_walk

    check_data_only(folder)
    config = read_config(folder)
    if config.get("quantization_config"):
        raise ModelError(f"{folder.name} is quantized already.", "Prune the model first, then quantize it.")
    decoder = Decoder(load_causal_lm(folder), folder.name)
    check_walk(decoder)
    return decoder


def set_weight(linear: nn.Linear, weight: Tensor, bias: Tensor | None = None) -> None:
    """Give a matrix other weights, of another size if need be."""
    linear.weight = nn.Parameter(weight.contiguous().clone(), requires_grad=False)
    linear.out_features, linear.in_features = weight.shape
    if bias is not None:
        linear.bias = nn.Parameter(bias.contiguous().clone(), requires_grad=False)
