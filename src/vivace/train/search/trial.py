"""One trial of a search: train with a point of the space, as far as it deserves."""

import fcntl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from vivace.config.train import SearchSettings, TrainSettings
from vivace.domain import Model, SilentProgress, Task, Workspace
from vivace.errors import ModelError, ResourceError
from vivace.store.files import read_journal
from vivace.train.search.space import Value, trial_settings
from vivace.train.tune import HISTORY, tune

OnValidation = Callable[[int, float], bool]
"""Told the number of a validation, from 1, and its loss; returns whether the trial goes on."""


class Common(Struct, frozen=True):
    """What all trials of a search share; `settings` are those of training, with `[train.search]`, as JSON."""

    dataset: Path
    base: Model
    system: str
    settings: str
    scratch: Path


class Ended(Struct, frozen=True, tag=True):
    """What a trial came to; `value` is its validation loss, `lacks_memory` says that it did not fit."""

    number: int
    state: Literal["complete", "pruned", "failed"]
    value: float | None
    tokens: int
    seconds: float
    failure: str = ""
    lacks_memory: bool = False


class _PrunedError(Exception):
    """This trial is worse than the others at the same point."""


def trial_folder(scratch: Path, number: int) -> Path:
    """Return where a trial keeps its checkpoints until it has ended."""
    return scratch / f"trial-{number}"


def run_trial(common: Common, number: int, point: dict[str, Value], on_validation: OnValidation) -> Ended:
    """Train with a point of the space; started again in the same scratch folder, it goes on at its checkpoint."""
    began = time.monotonic()
    settings = TrainSettings.model_validate_json(common.settings)
    chosen = trial_settings(settings, point).model_copy(
        update={
            "max_tokens": settings.search.tokens_per_trial,
            "metric_for_best_model": "loss",
            "search": SearchSettings(),
        }
    )
    folder = trial_folder(common.scratch, number)
    workspace = Workspace(folder / "out", folder / "scratch", _Watch(folder / "scratch" / HISTORY, on_validation))
    for place in (workspace.out, workspace.scratch):
        place.mkdir(parents=True, exist_ok=True)
    value: float | None = None
    state: Literal["complete", "pruned", "failed"] = "failed"
    failure: ModelError | ResourceError | None = None
    with open(folder / "lock", "a") as lock:
        # A process that was killed may still be ending.
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            facts = tune(common.dataset, common.base, common.system, chosen, workspace)
            value, state = float(facts["best_validation_loss"]), "complete"
        except _PrunedError:
            state = "pruned"
        except (ModelError, ResourceError) as error:
            # Settings under which training diverges or does not fit are an answer, not an accident.
            failure = error
    rows = [msgspec.json.decode(line) for line in read_journal(workspace.scratch / HISTORY)]
    return Ended(
        number=number,
        state=state,
        value=value,
        tokens=max((row["tokens"] for row in rows), default=0),
        seconds=round(time.monotonic() - began, 3),
        failure="" if failure is None else failure.message,
        lacks_memory=isinstance(failure, ResourceError),
    )


class _Watch(SilentProgress):
    """Progress that nobody sees; as training goes on, it reads what was validated and passes it on."""

    def __init__(self, history: Path, on_validation: OnValidation) -> None:
        self.history = history
        self.on_validation = on_validation
        self.seen = 0

    def task(self, label: str, total: float | None = None) -> Any:
        """Return a task that looks at the history at each step."""
        return _WatchTask(self)

    def look(self) -> None:
        """Pass on the newest validation, once; stops the trial when it is not to go on."""
        rows = [msgspec.json.decode(line) for line in read_journal(self.history)]
        losses = [row["validation_loss"] for row in rows if row["step"] and "validation_loss" in row]
        while self.seen < len(losses):
            self.seen += 1
            if not self.on_validation(self.seen, losses[self.seen - 1]):
                raise _PrunedError


class _WatchTask(Task):
    def __init__(self, watch: _Watch) -> None:
        self.watch = watch

    def __enter__(self) -> "_WatchTask":
        return self

    def __exit__(self, *exc: object) -> None:
        return None

    def advance(self, steps: float = 1) -> None:
        """Look after each step."""
        self.watch.look()

    def note(self, text: str) -> None:
        """Show nothing."""
