"""Updating a released model: where to go on from, on which rows, and what was forgotten."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

import msgspec

from vivace.config.train import TrainSettings
from vivace.domain import Artifact, Example, Model, Workspace
from vivace.errors import ConfigError, StoreError
from vivace.loop import stages
from vivace.loop.project import Project
from vivace.registry import nearest
from vivace.release import open_release
from vivace.store import read_examples
from vivace.store.artifacts import Outcome, is_whole
from vivace.store.files import write_atomic

TRAINED = ("align", "train")
CURRENT = "current"
FORGETTING = "forgetting.json"
MAX_HELD_OUT = 200
"""Conversations of the old data, and of the new, that forgetting is measured on."""
FEW = 16


class Start(msgspec.Struct, frozen=True):
    """What an update goes on from: a training run, the dataset it learned from, the release it became (if it did)."""

    trained: Artifact
    dataset: Artifact
    release: Artifact | None = None
    newest: bool = False  # named as the newest release, whichever that is

    @property
    def name(self) -> str:
        """What the user knows it by."""
        return f"release {self.release.short_id}" if self.release else f"run {self.trained.short_id}"


def find_start(project: Project, name: str) -> Start:
    """Return what `name` means: the id of a release or training run, or its first digits, a release's name, `current`.

    Raises `StoreError` where it or what it was made from is not in the store.
    """
    releases = project.store.artifacts("release")
    runs = [run for stage in TRAINED for run in project.store.artifacts(stage)]
    newest = name == CURRENT or any(item.facts.get("name") == name for item in releases)
    if newest:
        found = [item for item in releases if name in (CURRENT, item.facts.get("name"))][:1]
    else:
        found = list({item.id: item for item in reversed([*releases, *runs]) if item.id.startswith(name)}.values())
    if not found:
        known = [CURRENT, *(item.facts.get("name", "") for item in releases), *(item.short_id for item in releases)]
        raise StoreError(
            f"There is no release or training run {name!r} in {project.root} to go on from.",
            nearest(name, list(dict.fromkeys(known))) if releases else "Make a release with `vivace run`.",
        )
    if len(found) > 1:
        raise StoreError(f"{name!r} names {len(found)} releases or training runs.", "Give more digits of the id.")
    item = found[0]
    is_release = item.origin.stage == "release"
    trained = _trained_model(project, item) if is_release else item
    _need(trained, f"The model of run {trained.short_id} is")
    return Start(trained, _dataset(project, trained), item if is_release else None, newest)


def begin(project: Project, name: str, base: Model) -> Start:
    """Return what an update goes on from; raises `ConfigError` where base or method are others than they were."""
    from vivace.train.start import check_start

    start = find_start(project, name)
    if project.digest(base.path) not in start.trained.origin.parents:
        raise ConfigError(
            f"{start.name[0].upper()}{start.name[1:]} was tuned from another model than {base.name}, the base of this "
            "project.",
            "Name its base in [models], or train afresh without --from.",
        )
    check_start(start.trained.path / "model", settings_of(project, start))
    return start


def settings_of(project: Project, start: Start) -> TrainSettings:
    """Return the settings of an update: the project's; what a search would choose stays as it was for the model."""
    settings = project.settings.train
    if settings.search.method == "none":
        return settings
    from vivace.train.search.space import read_space, trial_settings

    then = start.trained.origin.settings
    return trial_settings(settings, {name: then[name] for name in read_space(settings) if name in then})


def step_back(project: Project, start: Start, dataset: Artifact) -> Start:
    """Return what `start` itself went on from, where it is the newest release and an update to this very dataset.

    So `--from current` once more does nothing, as every command does when nothing has changed.
    """
    facts = start.dataset.facts
    if not start.newest or start.dataset.origin.stage != "update" or facts.get("new_dataset") != dataset.id:
        return start
    return find_start(project, facts.get("release") or facts["start"])


def update(project: Project, dataset: Artifact, start: Start) -> Outcome:
    """Make the dataset of an update: what is new in `dataset`, and a replay of what was learned before."""
    settings = project.settings
    labels = sorted({settings.data.label.intent_field, settings.data.balance.by or "", "topic"} - {""})
    choices: dict[str, Any] = {
        "replay": settings.train.replay,
        "labels": labels,
        "threshold": settings.data.near_duplicate_threshold,
        "seed": settings.train.seed,
    }
    parents = {"new": dataset.id, "old": start.dataset.id, "start": start.trained.id}
    parents |= {"release": start.release.id} if start.release else {}

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.data.replay import write_update

        made = write_update(dataset.path, start.dataset.path, workspace, **choices)
        told = {"new_dataset": dataset.id, "old_dataset": start.dataset.id, "start": start.trained.id}
        return dataset.facts | made | told | ({"release": start.release.id} if start.release else {})

    return project.store.run(
        "update", work, kind="dataset", settings=choices, parents=parents, progress=project.progress
    )


def measure_forgetting(project: Project, dataset: Artifact, start: Start, trained: Artifact, base: Model) -> Outcome:
    """Compare the updated model with the one before it on held-out conversations of the old and of the new data."""
    settings = project.settings.train
    system = project.settings.project.system
    chosen = {"max_length": settings.max_length, "seed": settings.seed, "system": system, "replay": settings.replay}

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.train.search.verdict import compare_on

        models = [stages.tuned_model(project, run, base) for run in (start.trained, trained)]
        old, new = _held_out(dataset, start, settings)
        told = compare_on([old, new], base, models, system, settings, project.progress)
        found: dict[str, Any] = {"old": told[0], "new": told[1], "before": start.trained.id, "after": trained.id}
        found["forgets"] = bool(told[0] and told[0]["worse"])
        found["sentence"] = forgetting_sentence(found, settings.replay)
        write_atomic(workspace.out / FORGETTING, json.dumps(found, indent=2) + "\n")
        return found

    return project.store.run(
        "forgetting",
        work,
        kind="report",
        settings=chosen | {"max_validation_examples": settings.max_validation_examples},
        parents={"dataset": dataset.id, "before": start.trained.id, "after": trained.id},
        progress=project.progress,
    )


def forgetting_of(project: Project, trained: Artifact) -> dict[str, Any]:
    """Return what was measured of forgetting in an updated model, empty where nothing was."""
    reports = project.store.artifacts("forgetting")
    return next((item.facts for item in reports if item.facts.get("after") == trained.id), {})


def forgetting_sentence(found: dict[str, Any], replay: float) -> str:
    """Say whether an update forgot, and what it learned."""
    old, new = found["old"], found["new"]
    if old is None:
        return "Whether the update forgot cannot be told: the old data has no held-out conversations."
    where = f"{_change(old)} on {old['examples']:,} held-out conversations of the old data"
    few = f" Few conversations, little to tell: {old['examples']}." if old["examples"] < FEW else ""
    if found["forgets"]:
        told = f"The update forgets: {where}. Raise replay in [train] (now {replay:g}) or lower learning_rate."
    elif old["better"]:
        told = f"The update forgot nothing, it is better on the old data, too: {where}."
    else:
        told = f"No forgetting is shown: {where}."
    if new is not None:
        verdict = "it learned the new data" if new["better"] else "it is not better on the new data"
        told += f" On {new['examples']:,} of the new data {verdict}: {_change(new)}."
    return told + few


def _change(found: dict[str, Any]) -> str:
    before, after = found["token_accuracy"]
    return (
        f"the loss changes by {-found['gain']:+.3f} [{-found['high']:+.3f}, {-found['low']:+.3f}] nats per token "
        f"(token accuracy {before:.1%}, then {after:.1%})"
    )


def _held_out(dataset: Artifact, start: Start, settings: TrainSettings) -> tuple[list[Example], list[Example]]:
    """Return held-out conversations of the old data, and those that only the new data has.

    Those that chose a checkpoint of either model are left out, if enough others are left.
    """
    from vivace.data.replay import EXAMPLES, MEMORY, identity
    from vivace.train.tune import validation_sample

    new = [row for row in read_examples(dataset.path / EXAMPLES) if row.split != "train"]
    old = [row for row in read_examples(dataset.path / MEMORY) if row.split != "train"]
    values = start.trained.origin.settings
    then = settings.model_copy(
        update={name: values[name] for name in ("seed", "max_validation_examples") if name in values}
    )
    before = [row for row in read_examples(start.dataset.path / EXAMPLES) if row.split == "validation"]
    used = {identity(row) for row in validation_sample(before, then)}
    used |= {identity(row) for row in validation_sample([row for row in new if row.split == "validation"], settings)}
    known = {identity(row) for row in old}
    return (
        _unused(old, used, settings.seed),
        _unused([row for row in new if identity(row) not in known], used, settings.seed),
    )


def _unused(rows: Sequence[Example], used: set[str], seed: int) -> list[Example]:
    from vivace.data.replay import identity

    free = [row for row in rows if identity(row) not in used]
    chosen = free if len(free) >= FEW else rows
    return sorted(chosen, key=lambda row: hashlib.sha256(f"{seed} {identity(row)}".encode()).digest())[:MAX_HELD_OUT]


def _trained_model(project: Project, release: Artifact) -> Artifact:
    """Return the training run that a release's model comes from, through export, merge and what else lies between."""
    _need(release, f"Release {release.short_id} is")
    candidate = open_release(release.path, verify=False).candidate
    models = {item.id: item for item in reversed(project.store.artifacts()) if item.kind == "model"}
    waiting, seen = [candidate.model.artifact_id], set[str]()
    while waiting:
        place = waiting.pop(0)
        item = models.get(place)
        if item is None or place in seen:
            continue
        if item.origin.stage in TRAINED:
            return item
        if item.origin.stage == "distill":
            raise StoreError(
                f"Release {release.short_id} is a student that learned from a teacher: it cannot be gone on from.",
                "Go on from its teacher's release or run, and distill again.",
            )
        seen.add(place)
        waiting += item.origin.parents
    if candidate.role == "baseline":
        raise StoreError(
            f"Release {release.short_id} is the untuned base: there is no training to go on from.",
            "Train afresh without --from.",
        )
    raise _gone(f"The trained model of release {release.short_id} is")


def _dataset(project: Project, trained: Artifact) -> Artifact:
    found = [item for item in project.store.artifacts() if item.kind == "dataset" and item.id in trained.origin.parents]
    if not found or not is_whole(found[0].path.parent):
        raise StoreError(
            f"The dataset of run {trained.short_id} is no longer in the store: nothing can be replayed from it.",
            "Copy its folder back to .vivace/artifacts/dataset, or train afresh without --from.",
        )
    return found[0]


def _need(item: Artifact, what: str) -> None:
    if not is_whole(item.path.parent):
        raise _gone(what)


def _gone(what: str) -> StoreError:
    return StoreError(
        f"{what} no longer in the store, and what was exported from it cannot be trained.",
        "Copy its folder back to .vivace/artifacts, or make it again: `vivace run` with the data and settings it had.",
    )
