"""What people call things that answer: candidates, releases, models; found by name, made where they are not there."""

from collections.abc import Callable, Sequence
from pathlib import Path

from vivace.domain import Candidate, Model
from vivace.errors import ConfigError
from vivace.loop import stages
from vivace.loop.evaluate.gguf_files import opened_gguf
from vivace.loop.project import Project
from vivace.loop.providers import provider
from vivace.loop.releases import find_release
from vivace.registry import nearest
from vivace.store.artifacts import MANIFEST

NEWEST = "release"
BASE = "base"
TUNED = "tuned"
_FEWEST_DIGITS = 4


Made = Callable[[], Sequence[Candidate]]
"""made(): the project's candidates, its base first, made where they are not there."""


def grading_models(project: Project, made: Made) -> dict[str, Candidate]:
    """Return the models that the project's graders ask, by the names they ask for."""
    from vivace.evaluate.graders import bring

    wanted = project.settings.evaluate
    names = bring(wanted.graders, wanted.graders_file, wanted.own, project.root).models
    return {name: find_candidate(project, name, made) for name in names}


def find_candidate(project: Project, name: str, made: Made) -> Candidate:
    """Return what `name` says: a candidate, `release` (the newest) or the first digits or folder of one, or a model.

    `base` is the base model as it is exported, `tuned` the first export of the tuned model; a model is a provider of
    [models.providers], a name from `vivace models list`, a folder, or a GGUF file. Raises `ConfigError` with the
    nearest name for what is none of these.
    """
    path = _place(project, name)
    if (path / "release.json").is_file() or (path / MANIFEST).is_file():
        return find_release(path).candidate
    releases = project.store.artifacts("release")
    digits = "" if name == NEWEST else name
    if name == NEWEST or (len(name) >= _FEWEST_DIGITS and any(each.id.startswith(name) for each in releases)):
        return find_release(project.root, digits).candidate
    providers = project.settings.models.providers
    if name in providers:
        return provider(project, name)
    if name == BASE:
        return _exported(project, stages.base_model(project), BASE)
    from vivace.models import identify, resolve
    from vivace.models.catalog import entries

    if path.is_dir() or path.suffix == ".gguf":
        model = identify(path)
        if model.format == "gguf":
            return stages.candidate(project, path.stem, opened_gguf(project, path))
        if model.format not in ("hf", "adapter"):
            return stages.candidate(project, path.name, model)
    if path.is_dir() or name in [entry.name for entry in entries()]:
        found = resolve(str(path) if path.is_dir() else name, progress=project.progress, root=project.root)
        return _exported(project, found, path.name if path.is_dir() else name)
    _base, *others = made()
    named = {item.name: item for item in others}
    if name == TUNED and others:
        return others[0]
    if name not in named:
        raise ConfigError(
            f"{name!r} is no candidate, release, model or evaluation.",
            nearest(name, [BASE, TUNED, NEWEST, *providers, *named]) + " Releases: `vivace release list`.",
        )
    return named[name]


def _place(project: Project, name: str) -> Path:
    """Return the path that a name may be: from where the user is, else from the project."""
    here = Path(name).expanduser()
    return here if here.exists() else project.root / here


def _exported(project: Project, model: Model, name: str) -> Candidate:
    made, _reused = stages.export(project, model, stages.BASE_EXPORT)
    return stages.candidate(project, name, made)
