"""Train with the project's settings and with changed ones, and tell which is better, or that nothing is shown."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vivace.config import load
from vivace.config.train import SearchSettings, TrainSettings
from vivace.domain import Artifact, Model, Progress, Workspace
from vivace.errors import ConfigError
from vivace.loop import stages
from vivace.loop.project import Project, open_project
from vivace.store.artifacts import Outcome
from vivace.store.files import write_atomic

VERDICT = "verdict.json"
FIXED = {
    "seed": "--seeds N trains both with N seeds",
    "replay": "it counts with --from only",
    "search": "it finds settings, it is none",
    "preference": "it comes after training",
    "distill": "it makes a model of its own",
    "intent": "it makes a model of its own",
    "reward": "it makes a model of its own",
    "price_per_hour": "it decides nothing",
}
"""Settings that cannot be compared, and why."""
MAX_SEEDS = 20


def train_against(
    start: Path, words: Sequence[str], progress: Progress, *, seeds: int = 1, changes: Iterable[str] = ()
) -> dict[str, Any]:
    """Train with the project's settings and with those that `words` (NAME=VALUE) change, and compare the models.

    Each seed from the project's own on trains both. Raises `ConfigError` for what cannot be compared.
    """
    from vivace.loop.run import run
    from vivace.loop.trainings import note_trainings

    given = list(changes)
    if not 1 <= seeds <= MAX_SEEDS:
        raise ConfigError(f"--seeds {seeds} is not between 1 and {MAX_SEEDS}.")
    with open_project(start, progress, changes=given) as project:
        settings = without_search(project.settings.train)
        changed = changed_settings(project.config, words, given)
        differing = differences(settings, changed, words)
        dataset = run(project, "data").dataset
        assert dataset is not None
        base = stages.base_model(project)
        told = (", ".join(words), "the project's settings")
        found = compare_settings(project, dataset, base, settings, changed, seeds=seeds, names=told[::-1])
        note_trainings(project)
    found |= {"changed": differing, "seeds": seeds}
    return found | {"sentence": sentence(found)}


def changed_settings(config: Path, words: Sequence[str], changes: Sequence[str] = ()) -> TrainSettings:
    """Return the project's settings of training with `words` (NAME=VALUE) laid over them."""
    if not words:
        raise ConfigError("There is nothing to compare with.", "For example: train_sampling_strategy=curriculum")
    laid = []
    for word in words:
        name, equals, _value = (part.strip() for part in word.partition("="))
        name = name.removeprefix("train.")
        if not equals or not name:
            raise ConfigError(f"{word!r} is not NAME=VALUE.", "For example: train_sampling_strategy=curriculum")
        if (reason := FIXED.get(name.partition(".")[0])) is not None:
            raise ConfigError(f"{name} cannot be compared: {reason}.")
        laid.append(f"train.{word.strip().removeprefix('train.')}")
    return without_search(load(config, [*changes, *laid]).train)


def differences(settings: TrainSettings, changed: TrainSettings, words: Sequence[str] = ()) -> dict[str, list[Any]]:
    """Return the settings that differ with both values; raises `ConfigError` for one that is named and does not."""
    sides = [_effective(side) for side in (settings, changed)]
    found = {name: [side[name] for side in sides] for name in sides[0] if sides[0][name] != sides[1][name]}
    for word in words:
        name = word.partition("=")[0].strip().removeprefix("train.")
        if name not in found:
            raise ConfigError(
                f"{name} is {sides[0].get(name)!r} already: there is nothing to compare.",
                "Name another value, or see which one the project has in vivace.toml.",
            )
    return found


def without_search(settings: TrainSettings) -> TrainSettings:
    """Return the settings themselves, not those that a search would find."""
    return settings.model_copy(update={"search": SearchSettings()})


def compare_settings(
    project: Project,
    dataset: Artifact,
    base: Model,
    settings: TrainSettings,
    changed: TrainSettings,
    *,
    seeds: int = 1,
    names: Sequence[str] = ("the project's settings", "other settings"),
) -> dict[str, Any]:
    """Train with both settings, once for each seed, and return the comparison; the runs stay in the store.

    The losses are of validation conversations that stopped none of the runs, where enough of them are left.
    """
    every = [
        (settings.model_copy(update={"seed": seed}), changed.model_copy(update={"seed": seed}))
        for seed in range(settings.seed, settings.seed + seeds)
    ]
    runs: list[list[Artifact]] = []
    for pair in every:
        seed = f" (seed {pair[0].seed})" if seeds > 1 else ""
        runs.append(
            [
                kept(project, f"train with {name}{seed}", stages.train(project, dataset, base, side))
                for name, side in zip(names, pair, strict=True)
            ]
        )
    system = project.settings.project.system
    longest = max(settings.max_length, changed.max_length)

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.train.search.verdict import compare_seeds

        models = [[stages.tuned_model(project, run, base) for run in pair] for pair in runs]
        flat = [side.model_copy(update={"max_length": longest}) for pair in every for side in pair]
        found = compare_seeds(dataset.path / "examples.jsonl", base, models, system, flat, project.progress)
        write_atomic(workspace.out / VERDICT, json.dumps(found, indent=2))
        return found

    compared = project.store.run(
        "against",
        work,
        kind="report",
        settings={
            "system": system,
            "max_length": longest,
            "validated": [[side.seed, side.max_validation_examples] for pair in every for side in pair],
        },
        parents={"dataset": dataset.id}
        | {f"{number} {side}": run.id for number, pair in enumerate(runs) for side, run in enumerate(pair)},
        progress=project.progress,
    )
    verdict: dict[str, Any] = json.loads((compared.artifact.path / VERDICT).read_bytes())
    return verdict | {"runs": [run.id for pair in runs for run in pair], "sides": _sides(runs)}


def kept(project: Project, name: str, outcome: Outcome) -> Artifact:
    """Say that a stage worked, if it did, and return its artifact."""
    if not outcome.reused:
        project.progress.say(f"✓ {name} ({outcome.artifact.origin.seconds:,.0f} s)")
    return outcome.artifact


def sentence(found: dict[str, Any]) -> str:
    """Say which settings are better, as far as it is shown."""
    told = ", ".join(f"{name} = {_plain(after)}" for name, (_before, after) in found["changed"].items())
    figure = f"{found['gain']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}] nats per token"
    where = f"on {found['examples']:,} validation conversations"
    where += "" if found["unseen"] else " that also chose the checkpoints"
    if found["better"]:
        said = f"{told} is better by {figure} {where}."
    elif found["worse"]:
        said = f"{told} is worse: {figure} {where}."
    else:
        said = f"Neither is shown to be better: {told} gains {figure} {where}."
    if found["seeds"] == 1:
        return f"{said} One seed: what another one would change is not in the interval (--seeds 3)."
    return f"{said} The interval holds {found['seeds']} seeds."


def _effective(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings with the value that an empty learning rate stands for."""
    from vivace.train.methods import learning_rate

    return settings.model_dump() | {"learning_rate": learning_rate(settings)}


def _sides(runs: Sequence[Sequence[Artifact]]) -> list[dict[str, Any]]:
    """Return, for both sides, what their runs took and came to, one figure a seed."""
    return [
        {
            "runs": [pair[side].id for pair in runs],
            "best_validation_loss": [pair[side].facts.get("best_validation_loss") for pair in runs],
            "tokens": [pair[side].facts["tokens"] for pair in runs],
            "seconds": [pair[side].origin.seconds for pair in runs],
        }
        for side in (0, 1)
    ]


def _plain(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
