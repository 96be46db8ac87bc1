"""Choosing the base: models looked at, left out with the reason, measured on the user's own conversations, judged."""

import asyncio
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import psutil
from msgspec import Struct, structs

from vivace.config import find_config
from vivace.domain import Artifact, Candidate, Comparison, Example, Model, Progress, Score, Workspace
from vivace.errors import ConfigError, DataError, VivaceError
from vivace.loop import stages
from vivace.loop.measuring import Measured
from vivace.loop.project import Project, open_project, table
from vivace.loop.recommending import Purpose, Verdict, judge, rates
from vivace.models import cache_root, resolve
from vivace.models.prospects.prospect import CONVERT_BYTES_PER_PARAMETER, Prospect, misfit, prospect
from vivace.store import read_examples
from vivace.store.artifacts import Outcome
from vivace.store.files import write_atomic

MEASURED = "measured.json"
TRIED_CONVERSATIONS = 64
COUNTED_CONVERSATIONS = 2_000
_INT8_BYTES = 1.1  # scales and zero points included
_TORCH_BYTES = 4


class Entrant(Struct, frozen=True):
    """A model in the comparison: what is known of it, on which engine it would be served, and what is in the way.

    `left_out` is why it is not measured, `untrainable` why it cannot be trained; both empty when it can.
    """

    known: Prospect
    engine: str = ""
    left_out: str = ""
    untrainable: str = ""
    tokens_per_word: float | None = None
    tokens_per_character: float | None = None
    model: Model | None = None


class Choice(Struct, frozen=True):
    """What `vivace models compare` found; `note` says why nothing was measured where nothing was."""

    entrants: tuple[Entrant, ...]
    measured: tuple[Measured, ...] = ()
    verdict: Verdict | None = None
    answers: dict[str, Score] = {}
    answer_comparisons: tuple[Comparison, ...] = ()
    note: str = ""
    report: str = ""
    worked: bool = False


def compare_models(
    start: Path,
    names: Sequence[str],
    progress: Progress,
    *,
    purpose: Purpose = "balance",
    examples: int = 60,
    answers: int = 0,
    changes: Iterable[str] = (),
) -> Choice:
    """Compare base models on the project's validation set and recommend one.

    Without a project, or one without conversations, what can be told without them is. Models that are not there, do not
    fit or cannot chat are left out with the reason, before anything of them is loaded or downloaded.
    """
    try:
        find_config(start)
    except ConfigError as error:
        entrants = _look(names, "main", None, cache_root())
        return Choice(entrants, note=f"Nothing was measured: {error.message} Quality, speed and fertility need one.")
    with open_project(start, progress, changes=changes) as project:
        entrants = _look(names, project.settings.models.revision, project.root, project.root)
        try:
            dataset = _dataset(project)
        except DataError as error:
            return Choice(entrants, note=f"Nothing was measured: {error.message}")
        asked = _validation(dataset, examples)
        if len(asked) < 2:
            return Choice(entrants, note="Nothing was measured: the dataset has no two validation conversations.")
        entrants = tuple(_bring(project, entrant, dataset) for entrant in entrants)
        items = [_candidate(project, entrant) for entrant in entrants]
        return _finish(project, dataset, entrants, items, asked, purpose, answers)


def _look(names: Sequence[str], revision: str, root: Path | None, disk: Path) -> tuple[Entrant, ...]:
    """Return what can be known of each model, each under a name of its own, and whether it fits this machine."""
    entrants: list[Entrant] = []
    for name in dict.fromkeys(names):
        found = prospect(name, revision, root=root)
        if any(other.known.label == found.label for other in entrants):
            found = structs.replace(found, label=name)
        entrants.append(judge_fit(found, disk))
    return tuple(entrants)


def judge_fit(found: Prospect, disk: Path) -> Entrant:
    """Return the model with the reason why it does not fit here, if it does not."""
    from vivace.compress.support import check_exportable

    reason = found.problem or _not_for_chat(found)
    if reason:
        return Entrant(found, left_out=reason)
    engine, exported = "openvino", found.format == "hf"
    if found.format == "hf" and found.config:
        try:
            check_exportable(Model(found.label, found.path or Path(), "hf", ""), found.config)
        except VivaceError:
            engine, exported = "transformers", False
    elif found.format in ("openvino", "onnx", "adapter"):
        engine = {"openvino": "openvino", "onnx": "onnxruntime", "adapter": "transformers"}[found.format]
    else:
        exported = True
    parameters = found.parameters or 0
    each = _INT8_BYTES if engine == "openvino" else _TORCH_BYTES
    reason = misfit(
        found,
        serving_bytes=found.serving_bytes(each),
        making_bytes=CONVERT_BYTES_PER_PARAMETER * parameters if exported else 0,
        disk_bytes=_disk_bytes(found, exported),
        folder=disk,
    )
    return Entrant(found, engine, left_out=reason)


def _not_for_chat(found: Prospect) -> str:
    from vivace.train.tune import GENERATIVE

    if found.architecture != "unknown" and found.format == "hf" and not found.architecture.endswith(GENERATIVE):
        return f"It is a {found.architecture}, which does not write text."
    if found.has_template is False:
        return "It has no chat template: it was not tuned for chat, and nothing tells how to ask it."
    return ""


def _disk_bytes(found: Prospect, exported: bool) -> int:
    parameters = found.parameters or 0
    fetched = found.download_bytes + _TORCH_BYTES * parameters if found.path is None else 0
    return fetched + int(_INT8_BYTES * parameters if exported else 0)


def _dataset(project: Project) -> Artifact:
    from vivace.loop.run import run

    dataset = run(project, "data").dataset
    assert dataset is not None
    return dataset


def _validation(dataset: Artifact, count: int) -> list[Example]:
    """Return the validation conversations to ask about, chosen by their ids alone."""
    from vivace.evaluate.answers import is_scorable

    found = [item for item in read_examples(dataset.path / "examples.jsonl", "validation") if is_scorable(item)]
    return sorted(found, key=lambda item: hashlib.sha256(item.id.encode()).digest())[:count]


def _bring(project: Project, entrant: Entrant, dataset: Artifact) -> Entrant:
    """Fetch a model that fits, count its tokens, and find out whether it can be trained."""
    if entrant.left_out:
        return entrant
    try:
        wanted = project.settings.models.revision
        model = resolve(entrant.known.name, wanted, progress=project.progress, root=project.root)
        known = judge_fit(
            structs.replace(prospect(str(model.path)), name=entrant.known.name, label=entrant.known.label), project.root
        )
        if known.left_out:
            return known
        words, characters = _fertility(model.path, dataset)
        return structs.replace(
            known,
            tokens_per_word=words,
            tokens_per_character=characters,
            untrainable=_untrainable(project, model, dataset),
            model=model,
        )
    except VivaceError as error:
        return structs.replace(entrant, left_out=str(error))


def _fertility(folder: Path, dataset: Artifact) -> tuple[float | None, float | None]:
    from vivace.data.tokens.counting import TokenCounter
    from vivace.data.tokens.fertility import Fertility
    from vivace.data.tokens.sample import Sample

    counter, found = TokenCounter.open(folder), Fertility()
    for batch in Sample.draw(dataset.path, max_rows=COUNTED_CONVERSATIONS).batches(frozenset({"train", "validation"})):
        texts = [message.content for example in batch for message in example.messages if message.content]
        for text, ids in zip(texts, counter.encode(texts), strict=True):
            found.add(text, len(ids))
    return (found.tokens / found.words if found.words else None), (
        found.tokens / found.characters if found.characters else None
    )


def _untrainable(project: Project, model: Model, dataset: Artifact) -> str:
    """Return why a model cannot be trained on these conversations, empty when it can."""
    from itertools import islice

    from vivace.models import ChatTokenizer
    from vivace.train.batches.rows import encode_examples
    from vivace.train.tune import check_base

    settings = project.settings.train
    try:
        check_base(model)
        tokenizer = ChatTokenizer.open(model.path)
        some = islice(read_examples(dataset.path / "examples.jsonl", "train"), TRIED_CONVERSATIONS)
        longest = min(settings.max_length, tokenizer.context_length)
        encode_examples(tokenizer, some, project.settings.project.system, longest)
    except VivaceError as error:
        return str(error)
    return ""


def _candidate(project: Project, entrant: Entrant) -> Candidate | str:
    """Put a model on the engine that would serve it; return the reason where that fails."""
    if entrant.left_out or entrant.model is None:
        return entrant.left_out
    try:
        model = entrant.model
        if model.format == "hf" and entrant.engine == "openvino":
            model, _reused = stages.export(project, model, stages.BASE_EXPORT)
    except VivaceError as error:
        return str(error)
    return Candidate(entrant.known.label, entrant.engine, model, project.chain)


def _finish(
    project: Project,
    dataset: Artifact,
    entrants: tuple[Entrant, ...],
    items: Sequence[Candidate | str],
    asked: Sequence[Example],
    purpose: Purpose,
    answers: int,
) -> Choice:
    entrants = tuple(
        structs.replace(entrant, left_out=item) if isinstance(item, str) and item else entrant
        for entrant, item in zip(entrants, items, strict=True)
    )
    ready = [item for item in items if isinstance(item, Candidate)]
    if not ready:
        return Choice(entrants, note="Nothing was measured: no model is left.")
    settings = project.settings.evaluate
    made = _measured(project, dataset, ready, asked)
    measured = tuple(msgspec.json.decode((made.artifact.path / MEASURED).read_bytes(), type=list[Measured]))
    entrants = _with_errors(entrants, measured)
    verdict = judge([item for item in measured if not item.error], purpose, settings)
    scores, pairs = _answered(project, dataset, ready, asked[:answers]) if answers > 1 else ({}, ())
    note = "" if verdict else "Nothing can be recommended: no two examples were measured."
    return Choice(entrants, measured, verdict, scores, pairs, note, str(made.artifact.path), not made.reused)


def _with_errors(entrants: tuple[Entrant, ...], measured: Sequence[Measured]) -> tuple[Entrant, ...]:
    errors = {item.name: item.error for item in measured if item.error}
    return tuple(
        structs.replace(each, left_out=errors[each.known.label]) if each.known.label in errors else each
        for each in entrants
    )


def _measured(project: Project, dataset: Artifact, items: Sequence[Candidate], asked: Sequence[Example]) -> Outcome:
    threads = project.settings.serve.threads

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.loop.measuring import measure

        together = _side_by_side(items)
        found = asyncio.run(
            measure(items, asked, workspace.scratch, workspace.progress, threads=threads, together=together)
        )
        write_atomic(workspace.out / MEASURED, msgspec.json.format(msgspec.json.encode(found)))
        names = ("prefill_tokens_per_s", "decode_tokens_per_s")
        facts = {item.name: dict(zip(names, rates(item), strict=True)) for item in found}
        return {"models": facts, "examples": len(asked), "together": together}

    return project.store.run(
        "choose",
        work,
        kind="report",
        settings={"models": [[item.name, item.engine, item.model.weights] for item in items], "examples": len(asked)}
        | {"chain": project.chain, "threads": threads},
        parents={"dataset": dataset.id} | {item.name: _digest(project, item) for item in items},
        progress=project.progress,
    )


def _side_by_side(items: Sequence[Candidate]) -> bool:
    """Tell whether all engines fit into memory at once."""
    need = sum(prospect(str(item.model.path)).serving_bytes(_TORCH_BYTES) for item in items)
    return bool(need < psutil.virtual_memory().available)


def _digest(project: Project, item: Candidate) -> str:
    return item.model.artifact_id or project.digest(item.model.path)


def _answered(
    project: Project, dataset: Artifact, items: Sequence[Candidate], asked: Sequence[Example]
) -> tuple[dict[str, Score], tuple[Comparison, ...]]:
    """Let each model answer and return its token F1, and how every two of them differ."""
    from itertools import combinations

    from vivace.evaluate import compare, evaluate, family, load_report

    settings = project.settings.evaluate
    reports: dict[str, Path] = {}
    for item in items:

        def work(workspace: Workspace, item: Candidate = item) -> dict[str, Any]:
            return evaluate(item, asked, settings, workspace, threads=project.settings.serve.threads)

        made = project.store.run(
            "choose",
            work,
            kind="report",
            settings=table(settings) | {"chain": item.chain, "engine": item.engine, "answers": len(asked)},
            parents={"dataset": dataset.id, "model": _digest(project, item)},
            progress=project.progress,
        )
        reports[item.name] = made.artifact.path
    scores = {name: load_report(path).score("token_f1") for name, path in reports.items()}
    pairs = [
        structs.replace(each, candidate=one, baseline=other)
        for one, other in combinations(reports, 2)
        for each in compare(reports[one], reports[other], settings)
        if each.metric == "token_f1"
    ]
    return {name: score for name, score in scores.items() if score is not None}, tuple(family(pairs))


def told(choice: Choice) -> dict[str, Any]:
    """Return a choice as plain values for programs."""
    values: dict[str, Any] = json.loads(msgspec.json.encode(choice, enc_hook=str))
    for entrant, plain in zip(choice.entrants, values["entrants"], strict=True):
        plain["known"].pop("config", None)
        plain["known"]["commercial_use"] = entrant.known.commercial
    for item, plain in zip(choice.measured, values["measured"], strict=True):
        plain["prefill_tokens_per_s"], plain["decode_tokens_per_s"] = rates(item)
    return values
