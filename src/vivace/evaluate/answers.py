"""What came back for one example, and whether it can be scored."""

from typing import Any

from msgspec import Struct, field

from vivace.domain import Example, FinishReason, Message


class Answer(Struct, frozen=True):
    """One example, the answer it got, and how likely the engine found the reference.

    `logprob` sums the natural log-probabilities of the reference's `token_count` tokens, end of turn included;
    None with `likelihood_error` where the engine could not tell. `error` says why there is no usable answer.
    """

    id: str
    prompt: tuple[Message, ...]
    reference: str
    answer: str
    finish_reason: FinishReason | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    error: str | None = None
    logprob: float | None = None
    token_count: int = 0
    likelihood_error: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it counts as a failure: every metric of the answer is then 0."""
        return self.error is not None

    @property
    def question(self) -> str:
        """The last turn of the user."""
        return next((message.content for message in reversed(self.prompt) if message.role == "user"), "")


def is_scorable(example: Example) -> bool:
    """Tell whether the last turn is an assistant's with text to compare an answer with."""
    return bool(example.messages) and example.messages[-1].role == "assistant" and bool(example.reference.strip())
