"""Search for better training settings: trials on few tokens, judged by validation loss, bad ones ended early."""

import shutil
import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from vivace.config.train import TrainSettings
from vivace.domain import Model, Task, Workspace
from vivace.errors import DataError, ModelError
from vivace.store import read_examples
from vivace.store.files import write_atomic
from vivace.train.search import study as studies
from vivace.train.search.space import Space, Value, default_point, read_space
from vivace.train.search.trial import Common, Ended, run_trial, trial_folder

if TYPE_CHECKING:
    from optuna import Study
    from optuna.trial import FrozenTrial, Trial

STUDY = "study.db"
RESULT = "search.json"


def search(dataset: Path, base: Model, system: str, settings: TrainSettings, workspace: Workspace) -> dict[str, Any]:
    """Try settings in the space of `[train.search]` and return the facts; `out` gets `search.json` and `study.db`.

    The study lives in the scratch folder: started again there, finished trials are not repeated and an interrupted one
    goes on at its checkpoint. With one worker trials run one after another, so the result follows from the seed; with
    several, what a trial knows of the others depends on their pace.
    """
    wanted = settings.search
    space = read_space(settings)
    if next(read_examples(dataset, "validation"), None) is None:
        raise DataError(
            "The dataset has no validation example, so no settings can be told to be better.",
            "Add conversations to [data] and run `vivace data`.",
        )
    common = Common(dataset, base, system, settings.model_dump_json(), workspace.scratch)
    with studies.quiet_optuna(), studies.open_study(workspace.scratch / STUDY, settings) as study:
        with workspace.progress.task("Searching for settings", total=wanted.trials) as task:
            task.advance(studies.finished(study))
            _run_trials(study, space, common, settings, workspace, task)
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


def _run_trials(
    study: "Study", space: Space, common: Common, settings: TrainSettings, workspace: Workspace, task: Task
) -> None:
    """Run what is left of the budget, here or in several processes."""
    points = studies.planned_points(space, settings)
    before_s, began = studies.spent_s(study), time.monotonic()

    def following(at_work: Collection[int] = ()) -> "Trial | None":
        used_s = before_s + time.monotonic() - began
        return studies.next_trial(study, space, points, settings, used_s, at_work)

    def ended(number: int) -> None:
        shutil.rmtree(trial_folder(common.scratch, number), ignore_errors=True)
        task.advance()

    workers = min(settings.search.workers, settings.search.trials)
    if workers > 1:
        from vivace.train.search.parallel import Crew, gpus, worker_environments

        cores = len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else psutil.cpu_count()
        environments = worker_environments(workers, cores or 1, gpus())
        alone = settings.model_copy(update={"workers": 1})  # a trial does not spread further
        common = msgspec.structs.replace(common, settings=alone.model_dump_json())
        with Crew(common, environments, workspace.progress, task) as crew:
            crew.run(following, ended)
        return
    while (trial := following()) is not None:
        task.note(f"trial {trial.number}: {_told(trial.params)}")
        studies.tell(trial, _run_here(common, trial))
        ended(trial.number)


def _run_here(common: Common, trial: "Trial") -> Ended:
    def report(milestone: int, loss: float) -> bool:
        return studies.report(trial, milestone, loss)

    return run_trial(common, trial.number, trial.params, report)


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
