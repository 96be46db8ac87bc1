"""The study of a search: which settings come next, which trials end early, and what is remembered.

One process alone reads and writes it, also when several train: they are told settings and tell losses. So SQLite needs
no locks between processes (Optuna advises against SQLite for several writers), the sampler and the pruner see all
trials at once, and the file stays one that Optuna's dashboard opens.
"""

import hashlib
import itertools
import random
import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace.config.train import TrainSettings
from vivace.train.search.space import Choices, Space, Value, default_point
from vivace.train.search.trial import Ended

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import Trial

HALVING = 2  # of the trials that reach a validation, the better half goes on


@contextmanager
def open_study(path: Path, settings: TrainSettings) -> Iterator["Study"]:
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


def planned_points(space: Space, settings: TrainSettings) -> list[dict[str, Value]]:
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


def spent_s(study: "Study") -> float:
    """Return for how long the trials that have ended took, as told by `tell`."""
    return sum(float(trial.user_attrs.get("seconds", 0.0)) for trial in study.trials)


def next_trial(
    study: "Study",
    space: Space,
    points: list[dict[str, Value]],
    settings: TrainSettings,
    used_s: float,
    at_work: Collection[int] = (),
) -> "Trial | None":
    """Return a trial that was interrupted, or a new one, or None when the budget is used up."""
    from optuna.trial import Trial, TrialState

    wanted = settings.search
    trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.WAITING))
    running = [item for item in trials if item.state is TrialState.RUNNING and item.number not in at_work]
    waiting = [item for item in trials if item.state is TrialState.WAITING]
    number = (running or waiting)[0].number if running or waiting else len(study.trials)
    # Which settings come next follows from the seed, the number and the other trials: nothing to remember.
    study.sampler = _sampler(settings, number)
    if running:
        return _chosen(Trial(study, running[0]._trial_id), space)
    if number >= wanted.trials or (wanted.minutes is not None and number and used_s >= 60 * wanted.minutes):
        return None
    if number >= len(points) and wanted.method == "grid":
        return None
    if number < len(points) and not waiting:
        study.enqueue_trial(points[number])
    return _chosen(study.ask(), space)


def report(trial: "Trial", milestone: int, loss: float) -> bool:
    """Note a validation, once, and return whether the trial goes on."""
    if milestone not in trial.study.trials[trial.number].intermediate_values:
        trial.report(loss, milestone)
    return not trial.should_prune()


def tell(trial: "Trial", ended: Ended, *, beside: int = 1) -> None:
    """Note what a trial came to; `beside` is how many were at work at once, itself included."""
    from optuna.trial import TrialState

    states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
    if ended.failure:
        trial.set_user_attr("failure", ended.failure)
    trial.set_user_attr("tokens", ended.tokens)
    trial.set_user_attr("seconds", round(ended.seconds / beside, 3))
    trial.study.tell(trial, ended.value, state=states[ended.state])


def finished(study: "Study") -> int:
    """Return how many trials have ended."""
    return sum(trial.state.is_finished() for trial in study.trials)


@contextmanager
def quiet_optuna() -> Iterator[None]:
    """Keep Optuna from writing on the terminal."""
    import optuna

    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(level)


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


def _sampler(settings: TrainSettings, number: int) -> Any:
    """Return the sampler of one trial, whose draws follow from the seed and the trial's number."""
    from optuna import samplers

    seed = int(hashlib.sha256(f"vivace-search {settings.seed} {number}".encode()).hexdigest()[:8], 16)
    startup = max(3, min(10, settings.search.trials // 3))
    if settings.search.method == "tpe":
        # The liar counts trials at work as bad ones, so that several do not all try the same place.
        several = settings.search.workers > 1
        return samplers.TPESampler(seed=seed, n_startup_trials=startup, constant_liar=several)
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
