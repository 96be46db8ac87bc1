"""The sizes that are compared: models as they are, the tuned model with fewer and fewer layers, the candidates."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import psutil
from msgspec import Struct, structs

from vivace.config.plan import PlanSettings
from vivace.domain import Artifact, Candidate, Model
from vivace.errors import ConfigError, VivaceError
from vivace.loop import choosing, stages
from vivace.loop.compress.steps import Note, carry_out
from vivace.loop.evaluate.gguf_files import opened_gguf
from vivace.loop.project import Project
from vivace.loop.providers import provider
from vivace.models import describe, identify, resolve, size_bytes
from vivace.models.prospects.prospect import RUNTIME_BYTES, misfit, prospect

Family = Literal["as they are", "tuned", "candidates", "providers"]
_CACHE_FACTOR = 1.3  # what an engine takes besides its file: the cache of its conversations


class Sized(Struct, frozen=True):
    """One model of the comparison; `left_out` is why it is not measured, empty when it is."""

    name: str
    family: Family
    parameters: int | None = None
    candidate: Candidate | None = None
    left_out: str = ""


def find_sizes(project: Project, dataset: Artifact, note: Note, merged: Model | None) -> list[Sized]:
    """Return every model that [evaluate.scales] names, made and exported where need be, the misfits with the reason."""
    wanted = project.settings.evaluate.scales
    found = [_named(project, name) for name in dict.fromkeys(wanted.models)]
    if wanted.layers:
        assert merged is not None
        found += _family(project, dataset, merged, note)
    if wanted.candidates:
        found += _candidates(project)
    if not found:
        raise ConfigError(
            "There is nothing to compare: [evaluate.scales] names no size of model.",
            'Set models = ["smollm2-135m-instruct", ...], layers = [0.5, 0.7] or candidates = true.',
        )
    found = _unlike(found)
    return _together(project, found)


def _named(project: Project, name: str) -> Sized:
    if name in project.settings.models.providers:
        return Sized(name, "providers", candidate=provider(project, name))
    path = project.root / Path(name).expanduser()
    label = Path(name).name or name
    try:
        if path.suffix == ".gguf" or (path.is_dir() and identify(path).format == "gguf"):
            return _gguf(project, label, path)
        revision = project.settings.models.revision
        entrant = choosing.judge_fit(prospect(name, revision, root=project.root), project.root)
        if entrant.left_out:
            return Sized(label, "as they are", entrant.known.parameters, left_out=entrant.left_out)
        model = resolve(name, revision, progress=project.progress, root=project.root)
        entrant = choosing.judge_fit(prospect(str(model.path)), project.root)
        if entrant.left_out:
            return Sized(label, "as they are", entrant.known.parameters, left_out=entrant.left_out)
        if model.format == "hf" and entrant.engine == "openvino":
            model, _reused = stages.export(project, model, stages.BASE_EXPORT)
        item = Candidate(label, entrant.engine, model, project.chain)
        return Sized(label, "as they are", entrant.known.parameters, item)
    except VivaceError as error:
        return Sized(label, "as they are", left_out=str(error))


def _gguf(project: Project, label: str, path: Path) -> Sized:
    """Put a GGUF file on llama.cpp as it is, if it fits."""
    model = identify(path)
    told = describe(model.path)
    found = prospect(str(model.path))
    need = int(_CACHE_FACTOR * told.size_bytes) + RUNTIME_BYTES
    copied = told.size_bytes if model.path.is_file() else 0
    reason = misfit(found, serving_bytes=need, making_bytes=0, disk_bytes=copied, folder=project.root)
    if reason:
        return Sized(label, "as they are", told.parameters, left_out=reason)
    item = Candidate(label, "llamacpp", opened_gguf(project, path), project.chain)
    return Sized(label, "as they are", told.parameters, item)


def _family(project: Project, dataset: Artifact, merged: Model, note: Note) -> Iterator[Sized]:
    """Yield the tuned model and what it is with fewer layers, all exported alike."""
    from vivace.compress.plans.forecast import read_weights

    wanted = project.settings.evaluate.scales
    whole = {"heads": 1.0, "channels": 1.0, "sparsity": 0.0, "pattern": "unstructured"}
    for share in sorted({*wanted.layers, 1.0}):
        pruned = project.settings.compress.prune.model_copy(
            update=whole | {"layers": share, "heal_tokens": wanted.heal_tokens}
        )
        name = "tuned" if share == 1.0 else f"tuned-{share:.0%}-layers".replace("%", "")
        try:
            plan = PlanSettings(name=f"layers-{round(100 * share)}", prune=pruned)
            *_, last = carry_out(project, plan, merged, dataset, note)
            exported, reused = stages.export(project, last.model, stages.BASE_EXPORT)
            note(f"compress {name} to {stages.BASE_EXPORT}", reused)
        except VivaceError as error:
            yield Sized(name, "tuned", left_out=str(error))
            continue
        yield Sized(name, "tuned", read_weights(last.model.path).total, stages.candidate(project, name, exported))


def _candidates(project: Project) -> Iterator[Sized]:
    from vivace.loop.run import run

    for item in run(project, "compress").candidates:
        yield Sized(item.name, "candidates", _parameters(project, item.model), item)


def _parameters(project: Project, model: Model) -> int | None:
    """Return how many parameters a candidate has: those of what it was exported from."""
    from vivace.compress.plans.forecast import read_weights

    made = {item.id: item for item in project.store.artifacts() if item.kind == "model"}
    waiting, places = [model.artifact_id], [model.path]
    while waiting:
        item = made.get(waiting.pop(0))
        if item is not None:
            places += [item.path, item.path / "model"]
            waiting += item.origin.parents if item.origin.stage == "compress" else ()
    places.append(stages.base_model(project).path)
    for place in places:
        if any(place.glob("*.safetensors")) and not (place / "adapter_config.json").is_file():
            return read_weights(place).total or None
    return None


def _unlike(found: Sequence[Sized]) -> list[Sized]:
    """Return the models under names of their own."""
    seen: dict[str, int] = {}
    made = []
    for each in found:
        seen[each.name] = seen.get(each.name, 0) + 1
        name = each.name if seen[each.name] == 1 else f"{each.name}-{seen[each.name]}"
        item = None if each.candidate is None else structs.replace(each.candidate, name=name)
        made.append(structs.replace(each, name=name, candidate=item))
    return made


def _together(project: Project, found: Sequence[Sized]) -> list[Sized]:
    """Leave out the largest models where not all fit into memory side by side, as latency is measured."""
    free = int(psutil.virtual_memory().available)
    ready = sorted(
        (each for each in found if each.candidate is not None and each.family != "providers"),
        key=lambda each: size_bytes(each.candidate.model.path) if each.candidate else 0,
    )
    left: dict[str, str] = {}
    for each in ready:
        assert each.candidate is not None
        need = int(_CACHE_FACTOR * size_bytes(each.candidate.model.path)) + RUNTIME_BYTES
        free -= need
        if free < 0:
            left[each.name] = (
                f"It needs about {need / 1e9:,.1f} GB, and the smaller models beside it leave "
                f"{max(0, free + need) / 1e9:,.1f} GB: they are measured side by side."
            )
            free += need
    return [
        structs.replace(each, candidate=None, left_out=left[each.name]) if each.name in left else each for each in found
    ]
