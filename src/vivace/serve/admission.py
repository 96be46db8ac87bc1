"""How much work is let in, and how it is let out when the server stops."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vivace.errors import Overloaded


class Admission:
    """Counts the answers in work or waiting, and tells them when the server's deadline has passed."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.active = 0
        self.draining = False
        self.expired = False
        self._on_expiry: dict[object, Callable[[], None]] = {}

    def check(self, answers: int = 1) -> None:
        """Raise `Overloaded` if there is no room for so many more answers."""
        if self.active + answers > self.limit:
            raise Overloaded(
                f"The server has {self.active} answers in work or waiting and takes {self.limit}; try again soon."
            )

    @contextmanager
    def enter(self, answers: int) -> Iterator[None]:
        """Hold room for so many answers; raises `Overloaded` if there is none."""
        self.check(answers)
        self.active += answers
        try:
            yield
        finally:
            self.active -= answers

    @contextmanager
    def on_expiry(self, call: Callable[[], None]) -> Iterator[None]:
        """Have `call` called if the deadline passes meanwhile."""
        token = object()
        self._on_expiry[token] = call
        if self.expired:
            call()
        try:
            yield
        finally:
            del self._on_expiry[token]

    def drain(self) -> None:
        """Take no new work from now on."""
        self.draining = True

    def expire(self) -> None:
        """End what is still running: the deadline has passed."""
        self.draining = self.expired = True
        for call in list(self._on_expiry.values()):
            call()
