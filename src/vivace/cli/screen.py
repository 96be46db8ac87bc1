"""What the terminal shows: bars with the time left, tables, one line of JSON."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from vivace.domain import Task

PLAIN_INTERVAL_S = 15.0

errors = Console(stderr=True, highlight=False)
out = Console(highlight=False)


class _LiveTask:
    def __init__(self, bars: Progress, identity: TaskID) -> None:
        self._bars, self._id = bars, identity

    def advance(self, steps: float = 1) -> None:
        self._bars.advance(self._id, steps)

    def note(self, text: str) -> None:
        self._bars.update(self._id, note=text)


class _PlainTask:
    """Says a line now and then where bars cannot be drawn (a log file, CI)."""

    def __init__(self, label: str, total: float | None) -> None:
        self._label, self._total, self._done, self._note = label, total, 0.0, ""
        self._started = self._said = time.monotonic()

    def advance(self, steps: float = 1) -> None:
        self._done += steps
        now = time.monotonic()
        if now - self._said < PLAIN_INTERVAL_S:
            return
        self._said = now
        share = f" {self._done:.0f}" + (f"/{self._total:.0f}" if self._total else "")
        left = ""
        if self._total and self._done:
            left = f", about {(now - self._started) * (self._total / self._done - 1):.0f} s left"
        errors.print(f"  {self._label}{share}{left} {self._note}".rstrip())

    def note(self, text: str) -> None:
        self._note = text


class TerminalProgress:
    """Progress on standard error: live bars on a terminal, a line every 15 s elsewhere, nothing when `quiet`."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bars: Progress | None = None

    @contextmanager
    def task(self, label: str, total: float | None = None) -> Iterator[Task]:
        """Open a bar; bars opened inside one another are shown together."""
        if self._quiet or not errors.is_terminal:
            if total is None and not self._quiet:
                errors.print(f"  {label} …")
            yield _PlainTask(label, total) if not self._quiet else _LiveTaskless()
            return
        outermost = self._bars is None
        if self._bars is None:
            self._bars = _new_bars()
            self._bars.start()
        identity = self._bars.add_task(label, total=total, note="")
        try:
            yield _LiveTask(self._bars, identity)
        finally:
            self._bars.remove_task(identity)
            if outermost:
                self._bars.stop()
                self._bars = None

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        if not self._quiet:
            (self._bars.console if self._bars else errors).print(text)


class _LiveTaskless:
    def advance(self, steps: float = 1) -> None: ...

    def note(self, text: str) -> None: ...


def _new_bars() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("[dim]{task.fields[note]}"),
        console=errors,
        transient=True,
    )


def print_json(value: Any) -> None:
    """Print any noun as one JSON document on standard output."""
    typer.echo(json.dumps(msgspec.to_builtins(value, enc_hook=str), indent=2, ensure_ascii=False))
