"""When to ask again, and how often in all."""

import math
import random
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

RETRIED = frozenset({408, 409, 429, *range(500, 600)}) - {501, 505, 511}
FIRST_PAUSE_S = 0.5
LONGEST_PAUSE_S = 20.0
LONGEST_WAIT_S = 60.0
"""A server that asks for more patience than this is given up instead of waited for."""
RESERVE = 10.0
SHARE = 0.2


class RetryBudget:
    """Keeps retries to a share of the requests, so that a server in trouble is not asked many times as much.

    Each request pays in `SHARE` of a retry; `RESERVE` retries are there from the beginning and at most.
    """

    def __init__(self, reserve: float = RESERVE, share: float = SHARE) -> None:
        self._most = self._left = reserve
        self._share = share

    def pay_in(self) -> None:
        """Count one request."""
        self._left = min(self._most, self._left + self._share)

    def take(self) -> bool:
        """Use one retry up; false when none is left."""
        if self._left < 1:
            return False
        self._left -= 1
        return True


def pause_s(attempt: int, after_s: float | None, draw: Callable[[], float] = random.random) -> float:
    """Return how long to wait before attempt `attempt` + 1, with full jitter; never less than the server asked for.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    drawn = draw() * min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**attempt)
    # All who were told the same second do not come back in the same millisecond.
    return drawn if after_s is None else after_s + 0.1 * drawn


def retry_after_s(headers: Mapping[str, str], now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> float | None:
    """Return how long a server asks to wait: milliseconds, seconds or a date; None where it says nothing usable."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        if math.isfinite(seconds):
            return max(0.0, seconds)
    try:
        when = parsedate_to_datetime(headers.get("retry-after", ""))
    except ValueError:
        return None
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return max(0.0, (when - now()).total_seconds())


def may_pass(status: int, headers: Mapping[str, str]) -> bool:
    """Say whether a status is worth another attempt; a server that says so itself is believed."""
    said = headers.get("x-should-retry", "").lower()
    return said == "true" if said in ("true", "false") else status in RETRIED
