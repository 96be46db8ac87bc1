"""What happened to one request."""

from msgspec import Struct

from vivace.domain.message import Message
from vivace.domain.request import FinishReason, Request, Usage


class Trace(Struct, frozen=True):
    """One exchange as it was.

    Times are seconds on a monotonic clock; `intended_at` is when it should have been sent.
    """

    request: Request
    answer: Message
    finish_reason: FinishReason | None
    usage: Usage | None
    intended_at: float
    sent_at: float
    first_token_at: float | None
    finished_at: float
    error: str | None = None

    @property
    def ttft_ms(self) -> float | None:
        """Time to the first token, counted from the intended send time."""
        return None if self.first_token_at is None else (self.first_token_at - self.intended_at) * 1e3

    @property
    def e2e_ms(self) -> float:
        """Time to the last token, counted from the intended send time."""
        return (self.finished_at - self.intended_at) * 1e3

    @property
    def tpot_ms(self) -> float | None:
        """Mean time per output token after the first."""
        if self.first_token_at is None or self.usage is None or self.usage.completion_tokens < 2:
            return None
        return (self.finished_at - self.first_token_at) * 1e3 / (self.usage.completion_tokens - 1)
