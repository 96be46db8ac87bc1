"""What is asked of a model, what comes back, and the one shape of everything that answers."""

from collections.abc import AsyncGenerator, Callable
from typing import Any, Literal, Protocol, runtime_checkable

from msgspec import Struct, field

from vivace.domain.message import Message

FinishReason = Literal["stop", "length", "cancelled"]


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How the next token is chosen and when to stop; temperature 0 is greedy. `max_tokens` counts new tokens."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    stop: tuple[str, ...] = ()
    seed: int | None = None
    ignore_eos: bool = False


class Request(Struct, frozen=True, omit_defaults=True):
    """A conversation to continue; `metadata` travels with it and never reaches the engine."""

    id: str
    messages: tuple[Message, ...]
    model: str = ""
    sampling: Sampling = Sampling()
    tools: tuple[dict[str, Any], ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)


class Usage(Struct, frozen=True):
    """Tokens read, tokens written, and how many of the read ones came from the prefix cache."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Read and written together."""
        return self.prompt_tokens + self.completion_tokens


class Chunk(Struct, frozen=True, omit_defaults=True):
    """A piece of an answer. The last chunk, and only it, carries `finish_reason` and `usage`."""

    text: str = ""
    token_ids: tuple[int, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


Responder = Callable[[Request], AsyncGenerator[Chunk, None]]
Layer = Callable[[Responder], Responder]


@runtime_checkable
class Likelihood(Protocol):
    """A responder that can also tell how likely a given answer is."""

    async def token_logprobs(self, prompt_ids: tuple[int, ...], answer_ids: tuple[int, ...]) -> list[float]:
        """Return the natural log-probability of each answer token given the prompt and the answer before it."""
        ...


@runtime_checkable
class GreedyLikelihood(Likelihood, Protocol):
    """A responder that also tells whether a given answer's tokens are those it would have chosen itself."""

    async def token_choices(
        self, prompt_ids: tuple[int, ...], answer_ids: tuple[int, ...]
    ) -> tuple[list[float], list[bool]]:
        """Return what `token_logprobs` does and, per token, whether it is the likeliest at its place.

        The second list is empty where the engine knows probabilities only.
        """
        ...


@runtime_checkable
class Embedder(Protocol):
    """Something that turns texts into vectors."""

    async def embed(self, texts: list[str]) -> list[list[float]]:
        """Return one vector of fixed width per text."""
        ...
