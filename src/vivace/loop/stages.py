"""The stages of the loop, each asked of the store so that it runs only when something changed."""

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from hashlib import sha256
from typing import Any

import msgspec

from vivace.config.distill import DistillSettings
from vivace.config.train import PreferenceSettings, SearchSettings, TrainSettings
from vivace.domain import Artifact, Candidate, Model, Scorecard, Split, Workspace
from vivace.loop.project import Project, recipe, table
from vivace.store import read_examples
from vivace.store.artifacts import Outcome
from vivace.store.files import write_atomic

BASE_EXPORT = "openvino-int8"
REPLAY: float = TrainSettings.model_fields["replay"].default
REFERENCE = "base-transformers"
NO_MATTER = ("search", "replay", "workers", "distill")
"""Settings of [train] that change nothing in what a training stage makes."""
APART = ("judge", "ethics", "scales", "general", "margin")
"""What of [evaluate] changes no answer and no score: tables with stages of their own, the margin of a difference."""


def base_model(project: Project) -> Model:
    """Return the base model's folder, fetched and converted if need be."""
    from vivace.models import resolve

    wanted = project.settings.models
    return resolve(wanted.base, wanted.revision, progress=project.progress, root=project.root)


def data(project: Project) -> Outcome:
    """Make the dataset."""
    from vivace.data import input_files, stated_licenses

    settings = project.settings.data
    files = input_files(settings, project.root)
    corrections = project.root / settings.label.corrections
    if corrections.is_file():
        files.append(corrections)
    parents = {
        path.relative_to(project.root).as_posix() if path.is_relative_to(project.root) else str(path): project.digest(
            path
        )
        for path in files
    }
    # The card tells licenses, which lie beside the data.
    licenses = stated_licenses(files, project.root)
    parents |= {f"license of {name}": sha256(line.encode()).hexdigest() for name, line in licenses.items()}

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.data import prepare

        return prepare(settings, project.root, workspace)

    return project.store.run(
        "data",
        work,
        kind="dataset",
        # How many processes clean, and what is made of the dataset later, does not change it.
        settings={key: value for key, value in table(settings).items() if key not in ("workers", "augment")},
        parents=parents,
        progress=project.progress,
        revision=2,
    )


def augment(project: Project, dataset: Artifact) -> Outcome:
    """Add synthetic conversations to the training split."""
    settings = project.settings.data
    methods = set(settings.augment.methods)
    writer = _writer(project) if methods & {"paraphrase", "from_documents"} else None

    def work(workspace: Workspace) -> dict[str, Any]:
        return asyncio.run(_augment(project, dataset, writer, workspace))

    parents = {"dataset": dataset.id}
    if writer is not None:
        parents["model"] = writer.model.artifact_id or project.digest(writer.model.path)
    return project.store.run(
        "augment",
        work,
        kind="dataset",
        settings={
            "augment": table(settings.augment),
            "embedder": settings.label.embedder,
            "classes": [settings.balance.by, settings.label.intent_field],
            "languages": settings.languages,
            "system": project.settings.project.system,
            "seed": settings.seed,
        },
        parents=parents,
        progress=project.progress,
    )


def _writer(project: Project) -> Candidate:
    """Return the model that writes synthetic conversations, on the engine the loop serves with."""
    from vivace.models import resolve

    name = project.settings.data.augment.model
    base = base_model(project) if not name else resolve(name, progress=project.progress, root=project.root)
    exported, _reused = export(project, base, BASE_EXPORT)
    return candidate(project, "writer", exported)


async def _augment(
    project: Project, dataset: Artifact, writer: Candidate | None, workspace: Workspace
) -> dict[str, Any]:
    from vivace.data.augment.stage import augment as make_synthetic
    from vivace.data.card.page import write_card_page
    from vivace.engines import open_engine
    from vivace.index.embedders import open_embedder

    settings = project.settings.data
    needs = set(settings.augment.methods) - {"noise"}
    embedder = open_embedder(settings.label.embedder, progress=project.progress) if needs else None
    system = project.settings.project.system
    async with AsyncExitStack() as stack:
        engine = None
        if writer is not None:
            threads = project.settings.serve.threads
            engine = await stack.enter_async_context(open_engine(writer.engine, writer.model, threads=threads))
        made = await make_synthetic(
            dataset.path, settings, workspace, responder=engine, embedder=embedder, system=system
        )
        write_card_page(workspace.out, root=project.root)
        counts = {name: dataset.facts[name] + made["synthetic"] for name in ("examples", "train")}
        return dataset.facts | made | counts


def train(
    project: Project,
    dataset: Artifact,
    base: Model,
    settings: TrainSettings | None = None,
    start: Artifact | None = None,
) -> Outcome:
    """Tune the base on the dataset, with other settings than the project's if some are given.

    `start` is an earlier training run whose model is gone on from.
    """
    # How settings were searched for does not change what they make, nor does what is learned afterwards, nor how the
    # rows of an update were chosen: the dataset is an input of its own. Another number of workers makes the same model
    # within rounding, and goes on from the same checkpoints; the facts tell how many there were.
    chosen = (settings or project.settings.train).model_copy(
        update={"search": SearchSettings(), "preference": PreferenceSettings(), "replay": REPLAY}
        | {"distill": DistillSettings()}
    )
    system = project.settings.project.system
    parents = {"dataset": dataset.id, "base": project.digest(base.path)} | ({"start": start.id} if start else {})

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.loop.estimating import earlier_rates

        rates = earlier_rates(project, base, chosen)
        return tune_model(dataset, base, chosen, system, workspace, start, rates) | parents

    return project.store.run(
        "train",
        work,
        kind="model",
        settings={key: value for key, value in table(chosen).items() if key not in (*NO_MATTER, "preference")}
        | {"system": system},
        parents=parents,
        progress=project.progress,
        revision=2,  # answers that a template writes as nothing were learned before
    )


def tune_model(
    dataset: Artifact,
    base: Model,
    settings: TrainSettings,
    system: str,
    workspace: Workspace,
    start: Artifact | None = None,
    rates: Sequence[float] = (),
) -> dict[str, Any]:
    """Tune the base on the dataset in a workspace, whichever settings the project has."""
    from vivace.train import tune

    folder = start.path / "model" if start else None
    return tune(dataset.path / "examples.jsonl", base, system, settings, workspace, folder, rates)


def align(project: Project, dataset: Artifact, trained: Artifact, base: Model) -> Outcome:
    """Go on from the tuned model and learn from the dataset's ratings and comparisons."""
    settings = project.settings.train.model_copy(
        update={"search": SearchSettings(), "replay": REPLAY, "distill": DistillSettings()}
    )
    system = project.settings.project.system
    tuned = tuned_model(project, trained, base)

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.train.preferences.align import align as learn

        made = learn(dataset.path, tuned, base, system, settings, workspace)
        return {"method": trained.facts["method"], **made}

    return project.store.run(
        "align",
        work,
        kind="model",
        settings={key: value for key, value in table(settings).items() if key not in NO_MATTER} | {"system": system},
        parents={"dataset": dataset.id, "tuned": trained.id, "base": project.digest(base.path)},
        progress=project.progress,
    )


def tuned_model(project: Project, trained: Artifact, base: Model) -> Model:
    """Return the model that training made: an adapter on the base, or a full model."""
    method = trained.facts.get("method", project.settings.train.method)
    return Model(
        name=project.settings.project.name,
        path=trained.path / "model",
        format="hf" if method == "full" else "adapter",
        weights="fp32",
        base=None if method == "full" else base.path,
        artifact_id=trained.id,
        license=base.license,
    )


def merge(project: Project, tuned: Model, base: Model) -> tuple[Model, bool]:
    """Fold an adapter into its base; a full model is returned as it is."""
    if tuned.format != "adapter":
        return tuned, True

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.compress import merge as fold

        with project.progress.task("Merging the adapter"):
            fold(tuned, workspace.out)
        return {}

    outcome = project.store.run(
        "merge",
        work,
        kind="model",
        settings={},
        parents={"adapter": tuned.artifact_id, "base": project.digest(base.path)},
        progress=project.progress,
    )
    made = outcome.artifact
    merged = Model(tuned.name, made.path, "hf", "fp32", artifact_id=made.id, license=tuned.license)
    return merged, outcome.reused


def export(project: Project, model: Model, kind: str, dataset: Artifact | None = None) -> tuple[Model, bool]:
    """Compress a model for an engine; `kind` is such as openvino-int8. Some look at the dataset's conversations."""
    from vivace.compress import CALIBRATED

    chosen = project.settings.compress.quantize
    shaped = dataset is not None and kind in CALIBRATED
    looks = shaped and chosen.calibration != "none"
    system, max_length = project.settings.project.system, project.settings.train.max_length

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.compress import export as convert
        from vivace.compress import size_facts
        from vivace.compress.calibration import read_calibration

        seen = None
        if looks and dataset is not None:
            seen = read_calibration(dataset.path, model.path, chosen, system, max_length, project.root)
        made = convert(model, kind, workspace.out, project.progress, chosen if shaped else None, seen)
        told = {} if seen is None else {"calibration": seen.source, "calibration_tokens": seen.tokens}
        return {"format": made.format, "weights": made.weights, **size_facts(model, made), **told}

    settings: dict[str, Any] = {"export": kind}
    parents = {"model": model.artifact_id or project.digest(model.path)}
    if shaped:
        settings |= table(chosen)
    if looks and dataset is not None:
        settings |= {"system": system, "max_length": max_length}
        domain = chosen.calibration == "domain"
        file = project.root / chosen.calibration.removeprefix("file:")
        parents["calibration"] = dataset.id if domain or not file.is_file() else project.digest(file)
    outcome = project.store.run(
        "compress",
        work,
        kind="model",
        settings=settings,
        parents=parents,
        progress=project.progress,
    )
    made, facts = outcome.artifact, outcome.artifact.facts
    exported = Model(
        model.name, made.path, facts["format"], facts["weights"], artifact_id=made.id, license=model.license
    )
    return exported, outcome.reused


def size_of(project: Project, model: Model) -> int:
    """Return a model's bytes on disk: as its export noted them, else as they are."""
    from vivace.models import size_bytes

    noted = project.store.artifact(model.artifact_id).facts.get("size_bytes") if model.artifact_id else None
    return size_bytes(model.path) if noted is None else int(noted)


def candidate(project: Project, name: str, model: Model, *, role: str = "candidate") -> Candidate:
    """Put a model on the engine for its format, behind the project's chain."""
    from vivace.engines import default_engine

    return Candidate(name=name, engine=default_engine(model.format), model=model, chain=project.chain, role=role)


def evaluate(
    project: Project,
    item: Candidate,
    dataset: Artifact,
    split: Split = "test",
    graders: Mapping[str, Candidate] | None = None,
) -> Outcome:
    """Answer the held-out examples and score the answers; what chooses among plans looks at the split validation.

    `graders` are the models that grade, by name; graders of other models, and all on other splits, are left out.
    """
    settings = project.settings.evaluate
    from vivace.evaluate.graders import Brought, bring, brought_digests

    asked = {} if graders is None else dict(graders)
    brought, digests = Brought(), {}
    if split == "test":
        brought = bring(settings.graders, settings.graders_file, settings.own, project.root).asking(asked)
        digests = brought_digests(settings.graders_file, settings.own, project.root)
    threads = project.settings.serve.threads

    def open_grader(name: str) -> AbstractAsyncContextManager[Any]:
        from vivace.engines import open_engine

        return open_engine(asked[name].engine, asked[name].model, threads=threads, prefix_cache=False)

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.evaluate import evaluate as examine

        examples = list(read_examples(dataset.path / "examples.jsonl", split))[: settings.max_examples]
        return examine(item, examples, settings, workspace, threads=threads, brought=brought, graders=open_grader)

    parents = {"dataset": dataset.id, "model": item.model.artifact_id or project.digest(item.model.path)}
    parents |= digests
    for name, grader in asked.items():
        parents[f"grader {name}"] = grader.model.artifact_id or project.digest(grader.model.path)
    return project.store.run(
        "evaluate",
        work,
        kind="report",
        settings={key: value for key, value in table(settings).items() if key not in APART and value != []}
        | {"chain": item.chain, "engine": item.engine}
        | ({} if split == "test" else {"split": split}),
        parents=parents,
        progress=project.progress,
        revision=2,  # more metrics, and examples whose answer is a tool call
    )


def release(
    project: Project,
    scorecards: list[Scorecard],
    parents: dict[str, str],
    dataset: Artifact,
    papers: Mapping[str, Mapping[str, bytes]] | None = None,
) -> Outcome:
    """Pass the gate and write the release, with the `papers` of its candidate; raises `ReleaseRefused`."""
    from vivace.release import choose, judge, write_release

    objective = project.objective
    verdicts = judge(scorecards, objective)
    chosen = choose(scorecards, verdicts)
    name = project.settings.project.name
    text = recipe(project.settings)
    beside = dict((papers or {}).get(chosen.candidate.name, {}))
    told = {file: sha256(content).hexdigest() for file, content in beside.items()}

    def work(workspace: Workspace) -> dict[str, Any]:
        made_from = tuple(sorted(parents.values()))
        sealed = dataset.facts.get("test_sha256", "")
        write_release(workspace.out, name, chosen, verdicts, objective, text, made_from, sealed, beside)
        return {"candidate": chosen.candidate.name, "name": name}

    return project.store.run(
        "release",
        work,
        kind="release",
        settings={"objective": msgspec.to_builtins(objective), "recipe": text, "chosen": chosen.candidate.name}
        | ({"papers": told} if told else {}),
        parents=parents,
        progress=project.progress,
    )


def compare(project: Project, items: list[Candidate], reports: dict[str, Artifact]) -> Outcome:
    """Compare every candidate with the base on the same examples, corrected for how many comparisons that makes."""
    settings = project.settings.evaluate
    baseline, *others = items

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.evaluate import compare as pair
        from vivace.evaluate import family

        with project.progress.task("Comparing with the base", total=len(others)) as bar:
            found = []
            for item in others:
                found += pair(reports[item.name].path, reports[baseline.name].path, settings)
                bar.advance()
        write_atomic(workspace.out / "comparisons.json", msgspec.json.encode(family(found)))
        return {}

    return project.store.run(
        "compare",
        work,
        kind="report",
        settings={key: value for key, value in table(settings).items() if key not in APART}
        | {"names": [item.name for item in items]},
        parents={name: report.id for name, report in reports.items()},
        progress=project.progress,
    )
