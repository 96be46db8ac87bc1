"""A circuit breaker: a provider that fails is left alone for a while, then asked once.

Nygard, Release It!, 2007.
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from time import monotonic
from typing import Literal

from vivace.engines.remote.failures import Failed
from vivace.errors import ProviderUnavailable

State = Literal["closed", "open", "half-open"]
FAILURES = 5
COOL_DOWN_S = 5.0
LONGEST_COOL_DOWN_S = 60.0


class Breaker:
    """Opens after `failures` in a row; after a pause one attempt goes through, which closes it or opens it for longer.

    What says nothing of the provider (a wrong request, a caller that left) changes nothing.
    """

    def __init__(
        self,
        name: str,
        *,
        failures: int = FAILURES,
        cool_down_s: float = COOL_DOWN_S,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._name = name
        self._limit = failures
        self._first_pause_s = self._pause_s = cool_down_s
        self._clock = clock
        self._failures = 0
        self._opened_at: float | None = None
        self._round = 0  # counts openings and closings
        self._probing = False
        self._reason = ""

    @property
    def state(self) -> State:
        """Whether requests pass, none does, or one may."""
        if self._opened_at is None:
            return "closed"
        return "open" if self.left_s > 0 else "half-open"

    @property
    def left_s(self) -> float:
        """How long nothing passes."""
        return 0.0 if self._opened_at is None else max(0.0, self._opened_at + self._pause_s - self._clock())

    @contextmanager
    def attempt(self) -> Generator["Pass", None, None]:
        """Let one attempt pass and learn from how it ends; raises `ProviderUnavailable` when none may."""
        state = self.state
        if state == "open" or (state == "half-open" and self._probing):
            raise self.refusal()
        ticket = Pass(self, self._round, state == "half-open")
        self._probing = self._probing or ticket.probe
        try:
            yield ticket
        except Failed as failure:
            if failure.outcome == "down":
                self._strike(failure.error.message, ticket)
            elif failure.outcome == "up":
                self.clear(ticket)
            raise
        else:
            self.clear(ticket)
        finally:
            if ticket.probe:
                self._probing = False  # also when its caller left: the next one is the probe then

    def refusal(self) -> ProviderUnavailable:
        """Return the error that says for how long nothing passes and why."""
        left_s = max(self.left_s, 0.1)
        return ProviderUnavailable(
            f"The provider {self._name} failed {self._failures} times in a row and is not asked for another "
            f"{left_s:.1f} s. The last failure: {self._reason}",
            retry_after_s=left_s,
        )

    def clear(self, ticket: "Pass") -> None:
        """Count a sign of life; one of an attempt that began before the breaker opened is old news."""
        if ticket.round != self._round:
            return
        if self._opened_at is not None:
            self._round += 1
            ticket.round = self._round
        self._failures, self._opened_at, self._pause_s = 0, None, self._first_pause_s

    def _strike(self, reason: str, ticket: "Pass") -> None:
        if ticket.round != self._round:
            return
        self._failures += 1
        self._reason = reason
        reopened = self._opened_at is not None
        if reopened:
            self._pause_s = min(LONGEST_COOL_DOWN_S, 2 * self._pause_s)
        if reopened or self._failures >= self._limit:
            self._opened_at = self._clock()
            self._round += 1


class Pass:
    """One attempt that the breaker lets through."""

    def __init__(self, breaker: Breaker, begun: int, probe: bool) -> None:
        self._breaker = breaker
        self.round = begun
        self.probe = probe

    def alive(self) -> None:
        """Say that the provider answers, before the answer is complete."""
        self._breaker.clear(self)
