"""The table `[parity]` of `vivace.toml`."""

from typing import Annotated

from pydantic import Field, field_validator

from vivace.config.table import Count, Table

Nats = Annotated[float, Field(ge=0, le=100)]


class ParitySettings(Table):
    """How it is proved that the model that is served is the model that was trained."""

    enabled: bool = True
    """Prove it for every candidate in `vivace run`, and refuse to release one that differs. `vivace parity` proves it
    either way."""
    conversations: Annotated[int, Field(ge=0)] = 40
    """Conversations of the test split whose token ids are compared at every hop."""
    awkward: Annotated[int, Field(ge=0)] = 40
    """Made-up conversations beside them: tools, emoji, empty turns, texts that look like special tokens, and so on."""
    scored: Count = 4
    """Reference answers whose log-probabilities are compared, and questions that are answered greedily."""
    max_tokens: Count = 16
    """Longest greedy answer in tokens."""
    http: bool = True
    """Also ask through a real server on this machine."""
    second_reader: bool = True
    """Also render with transformers' own tokenizer, as other servers do, and cut texts with a GGUF file's own."""
    bounds: dict[str, Nats] = {}
    """Largest mean distance of a token's log-probability, in nats, by weights (`int8`) or format and weights
    (`onnx-int8`), instead of the built-in one."""
    seed: int = 0
    """Seed of the choice of conversations and of the awkward ones."""

    @field_validator("bounds")
    @classmethod
    def _bounds_name_something(cls, bounds: dict[str, float]) -> dict[str, float]:
        for name in bounds:
            if not name.strip():
                raise ValueError("a bound needs the name of a format or of weights, such as int8")
        return bounds
