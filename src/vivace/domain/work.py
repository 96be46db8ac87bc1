"""Where a stage works and how it tells how far it is."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from msgspec import Struct


class Task(Protocol):
    """A piece of work under way."""

    def advance(self, steps: float = 1) -> None:
        """Say that `steps` more are done."""
        ...

    def note(self, text: str) -> None:
        """Show a short live remark beside the bar, such as the current loss."""
        ...


class Progress(Protocol):
    """Shows work under way, with an estimate of the time left."""

    def task(self, label: str, total: float | None = None) -> AbstractContextManager[Task]:
        """Open a bar of `total` steps; None shows that work goes on without saying how much is left."""
        ...

    def say(self, text: str) -> None:
        """Print one line above the bars."""
        ...


class _Silent:
    def __enter__(self) -> "_Silent":
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def advance(self, steps: float = 1) -> None:
        """Do nothing."""

    def note(self, text: str) -> None:
        """Do nothing."""


class SilentProgress:
    """Progress that nobody watches."""

    def task(self, label: str, total: float | None = None) -> AbstractContextManager[Task]:
        """Return a task that shows nothing."""
        return _Silent()

    def say(self, text: str) -> None:
        """Do nothing."""


class Workspace(Struct, frozen=True):
    """What a running stage may touch.

    `out` becomes the artifact when the stage returns. `scratch` survives an interruption and is the same folder when
    the same stage starts again: checkpoints and journals go there. It is deleted once the artifact is sealed.
    """

    out: Path
    scratch: Path
    progress: Progress
