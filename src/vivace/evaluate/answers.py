"""What came back for one example, and whether it can be scored."""

from typing import Any

from msgspec import Struct, field

from vivace.domain import Example, FinishReason, Message, ToolCall


class Answer(Struct, frozen=True):
    """One example, the answer it got, and how likely the engine found the reference.

    `logprob` sums the natural log-probabilities of the reference's `token_count` tokens, end of turn included;
    None with `likelihood_error` where the engine could not tell. `greedy_count` of them are the tokens that the model
    would have chosen itself, None where that is unknown. `error` says why there is no usable answer. `wanted_calls`
    are the tools that the reference calls; `calls_error` says why the model cannot be asked for them, and where the
    reference is nothing but calls, it was not asked.
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
    greedy_count: int | None = None
    likelihood_error: str | None = None
    wanted_calls: tuple[ToolCall, ...] = ()
    calls_error: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it counts as a failure: every metric of the answer is then 0."""
        return self.error is not None

    @property
    def unasked(self) -> bool:
        """Whether the model was not asked: the reference is nothing but calls, which its template does not write."""
        return self.calls_error is not None and not self.has_text

    @property
    def has_text(self) -> bool:
        """Whether the reference is text; else it only calls tools."""
        return bool(self.reference.strip())

    @property
    def question(self) -> str:
        """The last turn of the user."""
        return next((message.content for message in reversed(self.prompt) if message.role == "user"), "")


def is_scorable(example: Example) -> bool:
    """Tell whether the last turn is an assistant's with text or a tool call to compare an answer with."""
    if not example.messages or example.messages[-1].role != "assistant":
        return False
    return bool(example.reference.strip() or example.messages[-1].tool_calls)
