"""Search for better training settings: trials on few tokens, judged by validation loss, bad ones ended early."""

import hashlib
import itertools
import random
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vivace.config.train import SearchSettings, TrainSettings
from vivace.domain import Model, SilentProgress, Task, Workspace
from vivace.errors import DataError, ModelError, ResourceError
from vivace.store import read_examples
from vivace.store.files import read_journal, write_atomic
from vivace.train.search.space import Choices, Space, Value, default_point, read_space, trial_settings
from vivace.train.tune import HISTORY, tune

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

STUDY = "study.db"
RESULT = "search.json"
HALVING = 2  # of the trials that reach a validation, the better half goes on


class _PrunedError(Exception):
    """This trial is worse than the others at the same point."""


def search(dataset: Path, base: Model, system: str, settings: TrainSettings, workspace: Workspace) -> dict[str, Any]:
    """Try settings in the space of `[train.search]` and return the facts; `out` gets `search.json` and `study.db`.

    The study lives in the scratch folder: started again there, finished trials are not repeated and an interrupted one
    goes on at its checkpoint. Trials run one after another, so the result follows from the seed.
    """
    wanted = settings.search
    space = read_space(settings)
    if next(read_examples(dataset, "validation"), None) is None:
        raise DataError(
            "The dataset has no validation example, so no settings can be told to be better.",
            "Add conversations to [data] and run `vivace data`.",
        )
    with _quiet_optuna(), _study(workspace.scratch / STUDY, settings) as study:
        points = _planned(space, settings)
        with workspace.progress.task("Searching for settings", total=wanted.trials) as task:
            task.advance(_finished(study))
            while (trial := _next(study, space, points, settings)) is not None:
                task.note(f"trial {trial.number}: {_told(trial.params)}")
                _try(trial, dataset, base, system, settings, workspace.scratch)
                task.advance()
        result = _result(study, space, settings)
    write_atomic(workspace.out / RESULT, msgspec.json.format(msgspec.json.encode(result)))
    shutil.copy(workspace.scratch / STUDY, workspace.out / STUDY)
    states = [trial["state"] for trial in result["trials"]]
    return {
        "method": wanted.method,
        "pruner": wanted.pruner,
        "trials": len(states),
        "pruned": states.count("pruned"),
        "failed": states.count("failed"),
        "tokens": sum(trial["tokens"] for trial in result["trials"]),
        "best": result["best"],
        "best_validation_loss": result["best_validation_loss"],
        "default_validation_loss": result["default_validation_loss"],
    }


def winner(result: dict[str, Any]) -> dict[str, Value]:
    """Return the best settings that differ from what they were, of a `search.json`."""
    default = result["default"] or {}
    return {name: value for name, value in result["best"].items() if name not in default or default[name] != value}


def _next(
    study: "Study", space: Space, points: list[dict[str, Value]] | None, settings: TrainSettings
) -> "Trial | None":
    """Return the trial that was interrupted, or a new one, or None when the budget is used up."""
    from optuna.trial import Trial, TrialState

    wanted = settings.search
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    waiting = study.get_trials(deepcopy=False, states=(TrialState.WAITING,))
    number = (running or waiting)[0].number if running or waiting else len(study.trials)
    # Which settings come next follows from the seed, the number and the finished trials: nothing to remember.
    study.sampler = _sampler(settings, number)
    if running:
        return _chosen(Trial(study, running[0]._trial_id), space)
    used_s = sum(trial.user_attrs.get("seconds", 0.0) for trial in study.trials)
    if number >= wanted.trials or (wanted.minutes is not None and number and used_s >= 60 * wanted.minutes):
        return None
    if points is not None and number >= len(points) and wanted.method == "grid":
        return None
    if points is not None and number < len(points) and not waiting:
        study.enqueue_trial(points[number])
    return _chosen(study.ask(), space)


def _chosen(trial: "Trial", space: Space) -> "Trial":
    """Let the sampler choose what is not chosen yet."""
    for name, dimension in space.items():
        if isinstance(dimension, Choices):
            trial.suggest_categorical(name, dimension.values)
        elif isinstance(dimension.low, int) and isinstance(dimension.high, int):
            trial.suggest_int(name, dimension.low, dimension.high, log=dimension.log)
        else:
            trial.suggest_float(name, dimension.low, dimension.high, log=dimension.log)
    return trial


def _try(trial: "Trial", dataset: Path, base: Model, system: str, settings: TrainSettings, scratch: Path) -> None:
    """Train one trial, as far as it deserves, and tell the study."""
    from optuna.trial import TrialState

    began = time.monotonic()
    folder = scratch / f"trial-{trial.number}"
    chosen = trial_settings(settings, trial.params).model_copy(
        update={
            "max_tokens": settings.search.tokens_per_trial,
            "metric_for_best_model": "loss",
            "search": SearchSettings(),
        }
    )
    watch = _Watch(folder / "scratch" / HISTORY, lambda milestone, loss: _report(trial, milestone, loss))
    workspace = Workspace(folder / "out", folder / "scratch", watch)
    for place in (workspace.out, workspace.scratch):
        place.mkdir(parents=True, exist_ok=True)
    value: float | None = None
    try:
        facts = tune(dataset, base, system, chosen, workspace)
        value, state = float(facts["best_validation_loss"]), TrialState.COMPLETE
    except _PrunedError:
        state = TrialState.PRUNED
    except (ModelError, ResourceError) as error:
        # Settings under which training diverges or does not fit are an answer, not an accident.
        trial.set_user_attr("failure", error.message)
        state = TrialState.FAIL
    rows = [msgspec.json.decode(line) for line in read_journal(workspace.scratch / HISTORY)]
    trial.set_user_attr("tokens", max((row["tokens"] for row in rows), default=0))
    trial.set_user_attr("seconds", round(time.monotonic() - began, 3))
    trial.study.tell(trial, value, state=state)
    shutil.rmtree(folder, ignore_errors=True)


def _report(trial: "Trial", milestone: int, loss: float) -> None:
    if milestone not in trial.study.trials[trial.number].intermediate_values:
        trial.report(loss, milestone)
    if trial.should_prune():
        raise _PrunedError


class _Watch(SilentProgress):
    """Progress that nobody sees; as training goes on, it reads what was validated and passes it on."""

    def __init__(self, history: Path, on_validation: Callable[[int, float], None]) -> None:
        self.history = history
        self.on_validation = on_validation
        self.seen = 0

    def task(self, label: str, total: float | None = None) -> Any:
        """Return a task that looks at the history at each step."""
        return _WatchTask(self)

    def look(self) -> None:
        """Pass on the newest validation, once; `milestone` counts validations from 1."""
        rows = [msgspec.json.decode(line) for line in read_journal(self.history)]
        losses = [row["validation_loss"] for row in rows if row["step"] and "validation_loss" in row]
        while self.seen < len(losses):
            self.seen += 1
            self.on_validation(self.seen, losses[self.seen - 1])


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


@contextmanager
def _study(path: Path, settings: TrainSettings) -> Iterator["Study"]:
    """Open the study in SQLite: transactions survive a kill, nothing is pickled, and we are its one writer."""
    import optuna
    from optuna.storages import RDBStorage

    storage = RDBStorage(f"sqlite:///{path}")
    try:
        yield optuna.create_study(
            storage=storage,
            study_name="train",
            load_if_exists=True,
            direction="minimize",
            pruner=_pruner(settings),
            sampler=_sampler(settings, 0),
        )
    finally:
        storage.remove_session()
        storage.engine.dispose()


def _sampler(settings: TrainSettings, number: int) -> Any:
    """Return the sampler of one trial, whose draws follow from the seed and the trial's number."""
    from optuna import samplers

    seed = int(hashlib.sha256(f"vivace-search {settings.seed} {number}".encode()).hexdigest()[:8], 16)
    startup = max(3, min(10, settings.search.trials // 3))
    if settings.search.method == "tpe":
        return samplers.TPESampler(seed=seed, n_startup_trials=startup)
    if settings.search.method == "gp":
        return samplers.GPSampler(seed=seed, n_startup_trials=startup)
    return samplers.RandomSampler(seed=seed)


def _pruner(settings: TrainSettings) -> Any:
    from optuna import pruners

    if settings.search.pruner == "asha":
        return pruners.SuccessiveHalvingPruner(min_resource=1, reduction_factor=HALVING)
    if settings.search.pruner == "hyperband":
        milestones = max(1, round(1 / settings.eval_steps_fraction))
        return pruners.HyperbandPruner(min_resource=1, max_resource=milestones, reduction_factor=HALVING)
    return pruners.NopPruner()


def _planned(space: Space, settings: TrainSettings) -> list[dict[str, Value]] | None:
    """Return the points that are tried whatever comes out: first the default settings, and all of a grid."""
    default = default_point(space, settings)
    first = [] if default is None else [default]
    if settings.search.method != "grid":
        return first
    values = [dimension.values for dimension in space.values() if isinstance(dimension, Choices)]
    grid = [dict(zip(space, point, strict=True)) for point in itertools.product(*values)]
    # A grid larger than the budget is sampled, not cut off at one end.
    random.Random(f"vivace-search-grid-{settings.seed}").shuffle(grid)
    return first + [point for point in grid if point != default]


def _finished(study: "Study") -> int:
    return sum(trial.state.is_finished() for trial in study.trials)


def _result(study: "Study", space: Space, settings: TrainSettings) -> dict[str, Any]:
    """Return what `search.json` holds; raises `ModelError` when no trial came to its end."""
    trials = [_row(trial) for trial in study.trials]
    complete = [row for row in trials if row["state"] == "complete"]
    if not complete:
        reasons = [row["failure"] for row in trials if row["failure"]]
        raise ModelError(
            f"None of {len(trials)} trials came to its end: {reasons[0] if reasons else 'all were pruned'}",
            "Lower learning_rate or the batch size in the space of [train.search].",
        )
    best = min(complete, key=lambda row: row["validation_loss"])
    default = default_point(space, settings)
    as_default = next((row for row in complete if row["settings"] == default), None)
    return {
        "method": settings.search.method,
        "pruner": settings.search.pruner,
        "tokens_per_trial": settings.search.tokens_per_trial,
        "space": space,
        "trials": trials,
        "importances": _importances(study, len(complete)),
        "default": default,
        "default_validation_loss": as_default["validation_loss"] if as_default else None,
        "best": best["settings"],
        "best_validation_loss": best["validation_loss"],
    }


def _row(trial: "FrozenTrial") -> dict[str, Any]:
    losses = dict(sorted(trial.intermediate_values.items()))
    last = list(losses.values())[-1] if losses else None
    return {
        "number": trial.number,
        "state": trial.state.name.lower().replace("fail", "failed"),
        "settings": dict(sorted(trial.params.items())),
        "validation_loss": trial.value if trial.value is not None else last,
        "validation_losses": losses,
        "tokens": trial.user_attrs.get("tokens", 0),
        "failure": trial.user_attrs.get("failure", ""),
    }


def _importances(study: "Study", complete: int) -> dict[str, float]:
    """Return each setting's share in the variance of the loss (fANOVA), empty with fewer than four whole trials."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    if complete < 4:
        return {}
    try:
        found = get_param_importances(study, evaluator=FanovaImportanceEvaluator(seed=0))
    except (ValueError, RuntimeError):
        return {}  # nothing varied among the whole trials
    return {name: round(float(share), 4) for name, share in found.items()}


def _told(values: dict[str, Value]) -> str:
    return ", ".join(
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}" for name, value in values.items()
    )


@contextmanager
def _quiet_optuna() -> Iterator[None]:
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)
