"""A model judges the candidates' answers, once it was measured beside people; one no better than chance is silent."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.config.judge import JudgeSettings
from vivace.domain import Artifact, Candidate, Model, Progress, Workspace
from vivace.errors import ConfigError, DataError
from vivace.evaluate import EvaluationReport, load_report
from vivace.evaluate import family as corrected
from vivace.evaluate.comparison import check_same_examples
from vivace.evaluate.judge import (
    JudgeReport,
    Opinions,
    Pair,
    Question,
    Resampling,
    Verdict,
    ask_all,
    calibrate_pairs,
    calibrate_scores,
    from_examples,
    gather,
    markdown,
    page,
    read_ratings,
    win_rate,
)
from vivace.evaluate.judge.opinions import Row
from vivace.evaluate.judge.results import Scored, WinRate, family, scored
from vivace.evaluate.judge.verdicts import answer_scores, pair_questions, pair_verdicts, score_questions
from vivace.loop import stages
from vivace.loop.evaluate.gguf_files import opened_gguf
from vivace.loop.project import Project, open_project, table
from vivace.loop.providers import provider
from vivace.models import identify
from vivace.registry import nearest
from vivace.store import read_examples
from vivace.store.artifacts import Outcome
from vivace.store.files import sha256_file, write_atomic

REPORT = "judge.json"
PREFERENCES = "preferences.jsonl"
Opened = Callable[[], AbstractAsyncContextManager[Any]]


class Judge(Struct, frozen=True):
    """Who judges: the candidate, what it is called, and the hash of everything that decides its verdicts."""

    name: str
    candidate: Candidate
    identity: str
    opened: Opened


def judge_project(
    start: Path,
    progress: Progress,
    *,
    names: Sequence[str] = (),
    against: str = "",
    ratings: Path | None = None,
    changes: Iterable[str] = (),
) -> tuple[JudgeReport, Artifact]:
    """Measure the judge beside people and, where it may speak, have it judge the evaluated candidates `names`.

    Without names all candidates of the newest dataset are judged against `against` (the base). `ratings` is a file of
    ratings or comparisons beside those in the dataset.
    """
    with open_project(start, progress, changes=changes) as project:
        judge = open_judge(project)
        measured = calibrate(project, judge, ratings).artifact
        report = read_report(measured)
        if not report.speaks:
            return report, measured
        chosen = _candidates(project, names, against)
        if not chosen:
            return report, measured
        made = judge_candidates(project, judge, measured, chosen).artifact
        return read_report(made), made


def open_judge(project: Project) -> Judge:
    """Return the judge that [evaluate.judge] names, fetched and exported if need be."""
    from vivace.engines import default_engine, open_engine

    settings = project.settings.evaluate.judge
    if settings.model in project.settings.models.providers:
        model, engine = (item := provider(project, settings.model, bare=True)).model, item.engine
    else:
        model = _model(project, settings)
        engine = settings.engine or default_engine(model.format)
        item = Candidate("judge", engine, model)
    identity = f"{engine} {model.artifact_id or project.digest(model.path)}"
    threads = project.settings.serve.threads
    # Without the prefix cache: verdicts must not depend on which came before.
    return Judge(
        settings.model, item, identity, lambda: open_engine(engine, model, threads=threads, prefix_cache=False)
    )


def calibrate(project: Project, judge: Judge, ratings: Path | None = None) -> Outcome:
    """Ask the judge what people were asked, and compare."""
    settings = project.settings.evaluate.judge
    dataset = _dataset(project)
    if ratings is not None and not ratings.is_file():
        raise DataError(f"There is no file {ratings}.", "Name a file of ratings, one JSON object a line.")
    parents = {"judge": judge.identity}
    if dataset is not None:
        parents["dataset"] = dataset.id
    if ratings is not None:
        parents["ratings"] = sha256_file(ratings)

    def work(workspace: Workspace) -> dict[str, Any]:
        opinions, sources = _opinions(settings, dataset, ratings)
        report = asyncio.run(_calibrated(judge, opinions, sources, project, workspace))
        return write_report(report, workspace.out)

    return project.store.run(
        "calibrate-judge",
        work,
        kind="report",
        settings=table(settings) | _resampling_settings(project),
        parents=parents,
        progress=project.progress,
    )


def judge_candidates(project: Project, judge: Judge, measured: Artifact, chosen: Sequence[Artifact]) -> Outcome:
    """Judge evaluated candidates against the last of them, with the kinds of verdict that the judge may give."""
    settings = project.settings.evaluate.judge

    def work(workspace: Workspace) -> dict[str, Any]:
        reports = [load_report(each.path) for each in chosen]
        return write_report(
            asyncio.run(_judged(judge, read_report(measured), reports, project, workspace)), workspace.out
        )

    parents = {"judge": judge.identity, "calibration": measured.id}
    parents |= {f"report {each.facts['candidate']}": each.id for each in chosen}
    return project.store.run(
        "judge",
        work,
        kind="report",
        settings=table(settings)
        | _resampling_settings(project)
        | {"candidates": [each.facts["candidate"] for each in chosen]},
        parents=parents,
        progress=project.progress,
    )


def write_report(report: JudgeReport, folder: Path) -> dict[str, Any]:
    """Write `judge.json`, `judge.md` and `judge.html`, and return what a stage tells of them."""
    write_atomic(folder / REPORT, msgspec.json.format(msgspec.json.encode(report), indent=1))
    write_atomic(folder / "judge.md", markdown(report))
    write_atomic(folder / "judge.html", page(report))
    return {
        "judge": report.judge,
        "speaks": report.speaks,
        "pairs": report.pairs.sentence,
        "ratings": report.ratings.sentence,
        "win_rates": {each.candidate: each.rate.value for each in report.win_rates},
    }


def read_report(artifact: Artifact) -> JudgeReport:
    """Return what a judge's report holds."""
    return msgspec.json.decode((artifact.path / REPORT).read_bytes(), type=JudgeReport)


async def _calibrated(
    judge: Judge, opinions: Opinions, sources: Sequence[str], project: Project, workspace: Workspace
) -> JudgeReport:
    settings, how = project.settings.evaluate.judge, _resampling(project)
    pairs = [Pair(each.id, each.prompt, each.first, each.second, each.group) for each in opinions.compared]
    questions = pair_questions(pairs, settings)
    questions += score_questions([(each.id, each.prompt, each.answer) for each in opinions.rated], settings)
    found = await _asked(judge, questions, settings, workspace, "Asking the judge what people were asked")
    scores = answer_scores([each.id for each in opinions.rated], found, settings)
    masses = [verdict.mass for verdict in found.values()]
    return JudgeReport(
        judge=judge.name,
        model=f"{judge.candidate.model.name} ({judge.candidate.model.weights})",
        engine=judge.candidate.engine,
        read="likelihood" if any(mass is not None for mass in masses) else "text",
        pairs=calibrate_pairs(opinions.compared, pair_verdicts(pairs, found), how),
        ratings=calibrate_scores(opinions.rated, scores, how),
        left_out=opinions.left_out,
        sources=tuple(sources),
    )


async def _judged(
    judge: Judge, measured: JudgeReport, reports: Sequence[EvaluationReport], project: Project, workspace: Workspace
) -> JudgeReport:
    settings, how = project.settings.evaluate.judge, _resampling(project)
    *others, baseline = reports
    for report in others:
        check_same_examples(report, baseline)
    # The same sample for every candidate: it depends on the ids alone.
    ids = sorted((each.id for each in baseline.answers), key=lambda key: sha256(key.encode()).digest())
    asked = ids[: settings.max_pairs]
    answers = {report.facts.candidate: {each.id: each for each in report.answers} for report in reports}
    base = baseline.facts.candidate
    paired = {
        name: [Pair(f"{name}:{key}", own[key].prompt, own[key].answer, answers[base][key].answer, key) for key in asked]
        for name, own in answers.items()
        if name != base
    }
    questions: list[Question] = []
    if measured.pairs.trusted:
        questions += [question for pairs in paired.values() for question in pair_questions(pairs, settings)]
    if measured.ratings.trusted:
        each_answer = [(f"{n}:{k}", own[k].prompt, own[k].answer) for n, own in answers.items() for k in asked]
        questions += score_questions(each_answer, settings)
    found = await _asked(judge, questions, settings, workspace, "Judging answers")
    rates: list[WinRate] = []
    results: list[Scored] = []
    if measured.pairs.trusted:
        told = [win_rate((n, base), pair_verdicts(pairs, found), asked, how) for n, pairs in paired.items()]
        rates = [each for each in told if each is not None]
    if measured.ratings.trusted:
        theirs = answer_scores([f"{base}:{key}" for key in asked], found, settings)
        for name in paired:
            ours = answer_scores([f"{name}:{key}" for key in asked], found, settings)
            results.append(scored((name, base), ours, theirs, how))
    notes = _kinship(judge, reports)
    return msgspec.structs.replace(
        measured, win_rates=family(rates), scored=tuple(_corrected(results)), notes=(*measured.notes, *notes)
    )


def _corrected(results: Sequence[Scored]) -> list[Scored]:
    """Correct the p-values of all criteria and candidates together."""
    flat = corrected([found for each in results for found in each.comparisons])
    made = []
    for each in results:
        own, flat = flat[: len(each.comparisons)], flat[len(each.comparisons) :]
        made.append(msgspec.structs.replace(each, comparisons=tuple(own)))
    return made


def _kinship(judge: Judge, reports: Sequence[EvaluationReport]) -> list[str]:
    """Say where a judge judges itself: models like their own answers (Panickssery et al. 2024)."""
    own = judge.candidate.model
    kin = [
        each.facts.candidate
        for each in reports
        if (own.artifact_id and each.facts.artifact_id == own.artifact_id) or each.facts.model == own.name
    ]
    return (
        [f"The judge is itself, or comes from, a judged model: {', '.join(kin)}. It may prefer its own."] if kin else []
    )


async def _asked(
    judge: Judge, questions: Sequence[Question], settings: JudgeSettings, workspace: Workspace, label: str
) -> dict[str, Verdict]:
    if not questions:
        return {}
    async with judge.opened() as engine:
        return await ask_all(
            engine,
            questions,
            workspace.scratch / "verdicts.jsonl",
            workspace.progress,
            identity=judge.identity,
            read=settings.read,
            concurrency=settings.concurrency,
            label=label,
        )


def _opinions(settings: JudgeSettings, dataset: Artifact | None, ratings: Path | None) -> tuple[Opinions, list[str]]:
    rows: list[Row] = []
    unfit, sources = 0, []
    if dataset is not None and (dataset.path / PREFERENCES).is_file():
        # What a tuned judge was shown in training says nothing about how it judges.
        held = (
            each
            for each in read_examples(dataset.path / PREFERENCES)
            if settings.model != "tuned" or each.split != "train"
        )
        rows, unfit = from_examples(held, settings.within)
        sources.append(f"{len(rows)} opinions in the dataset")
    if ratings is not None:
        more, unrated = read_ratings(ratings, settings.good_from, settings.within)
        rows, unfit = rows + more, unfit + unrated
        sources.append(f"{len(more)} opinions in {ratings.name}")
    return gather(rows, settings.max_ratings, settings.max_pairs, unfit=unfit), sources


def _model(project: Project, settings: JudgeSettings) -> Model:
    from vivace.models import resolve

    if settings.model == "tuned":
        # As `vivace train` left it last; none is trained for a judge.
        made = [each for stage in ("train", "distill", "align") for each in project.store.artifacts(stage)]
        runs = sorted(made, key=lambda each: each.origin.created_at, reverse=True)
        if not runs:
            raise ConfigError(
                'The judge is "tuned", and no model was tuned yet.', "Run `vivace train`, or name another judge."
            )
        base = stages.base_model(project)
        model, _ = stages.merge(project, stages.tuned_model(project, runs[0], base), base)
    elif settings.model == "base":
        model = stages.base_model(project)
    else:
        model = _gguf_or(project, settings.model) or resolve(
            settings.model, progress=project.progress, root=project.root
        )
    if model.format != "hf" or settings.export == "none":
        return model
    exported, _ = stages.export(project, model, settings.export)
    return exported


def _gguf_or(project: Project, name: str) -> Model | None:
    """Return a GGUF file or folder as it is: an engine opens it, and a large one need not be converted."""
    path = project.root / Path(name).expanduser()
    if path.suffix != ".gguf" and not path.is_dir():
        return None
    return opened_gguf(project, path) if identify(path).format == "gguf" else None


def _candidates(project: Project, names: Sequence[str], against: str) -> list[Artifact]:
    """Return the newest evaluations of the candidates and, last, of the one they are compared with."""
    found: dict[str, Artifact] = {}
    dataset = _dataset(project)
    for each in project.store.artifacts("evaluate"):
        if "split" not in each.origin.settings and (dataset is None or dataset.id in each.origin.parents):
            found.setdefault(each.facts["candidate"], each)
    for name in (*names, *([against] if against else [])):
        if name not in found:
            hint = nearest(name, list(found)) if found else "Run `vivace evaluate` first."
            raise ConfigError(f"No candidate {name!r} was evaluated.", hint)
    base = against or next(
        (name for name, each in found.items() if load_report(each.path).facts.role == "baseline"), ""
    )
    chosen = [name for name in (names or found) if name != base]
    if not base or not chosen:
        return []
    return [found[name] for name in (*chosen, base)]


def _dataset(project: Project) -> Artifact | None:
    found = [*project.store.artifacts("data"), *project.store.artifacts("augment")]
    return max(found, key=lambda item: item.origin.created_at, default=None)


def _resampling(project: Project) -> Resampling:
    settings = project.settings.evaluate
    return Resampling(settings.confidence, settings.resamples, settings.seed)


def _resampling_settings(project: Project) -> dict[str, Any]:
    settings = project.settings.evaluate
    return {"confidence": settings.confidence, "resamples": settings.resamples, "seed": settings.seed}
