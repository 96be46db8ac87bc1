"""The whole loop: from files to a release, doing only what is not done yet."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from vivace.domain import Artifact, Candidate, Comparison, Model, Score, Scorecard, Verdict
from vivace.errors import ConfigError, ReleaseRefused
from vivace.evaluate.ethics.report import EthicsReport, ethics_json
from vivace.loop import distilling, searching, speed, stages, trainings, updating
from vivace.loop.compress.steps import Note, carry_out, export_candidate
from vivace.loop.evaluate import findings
from vivace.loop.evaluate.ethics import ethics_findings
from vivace.loop.evaluate.general import forgetting_findings
from vivace.loop.evaluate.naming import grading_models
from vivace.loop.limits import unfit_exports
from vivace.loop.parity import parity_findings, parity_papers
from vivace.loop.project import Project
from vivace.loop.providers import provider_candidates
from vivace.parity import ParityReport
from vivace.store.artifacts import Outcome


class Result(msgspec.Struct):
    """What the loop came to; fields stay None beyond the stage it was asked to stop at."""

    dataset: Artifact | None = None
    base: Model | None = None
    trained: Artifact | None = None
    distilled: Artifact | None = None  # the student of the trained model; None without [train.distill]
    aligned: Artifact | None = None  # trained on, on preferences; None without [train.preference]
    forgetting: Artifact | None = None  # how an update compares with the model it went on from
    candidates: list[Candidate] = []
    scorecards: list[Scorecard] = []
    verdicts: list[Verdict] = []
    bench: Artifact | None = None
    release: Artifact | None = None
    refusal: str = ""
    report: Path | None = None
    reports: dict[str, Artifact] = {}
    parity: dict[str, ParityReport] = {}  # by candidate, where [parity] is switched on
    ethics: dict[str, EthicsReport] = {}  # by candidate, where [evaluate.ethics] is switched on
    unfit: list[str] = []  # why exports were not begun
    worked: list[str] = []  # the stages that really ran this time


UNTIL = ("data", "train", "compress", "evaluate", "bench", "release")


class _Loop:
    """One pass over the stages, keeping note of which of them did work."""

    def __init__(self, project: Project, origin: str = "") -> None:
        self.project = project
        self.result = Result()
        self.start = updating.begin(project, origin, stages.base_model(project)) if origin else None

    def keep(self, name: str, outcome: Outcome) -> Artifact:
        """Note whether a stage worked, tell it, and return its artifact."""
        self.note(name, outcome.reused, outcome.artifact.origin.seconds)
        return outcome.artifact

    def note(self, name: str, reused: bool, seconds: float | None = None) -> None:
        """Tell on the terminal what became of a stage."""
        if reused:
            self.project.progress.say(f"[dim]✓ {name}: unchanged[/dim]")
        else:
            self.result.worked.append(name)
            self.project.progress.say(f"✓ {name}" + (f" ({seconds:,.0f} s)" if seconds is not None else ""))

    def data(self) -> None:
        self.result.dataset = self.keep("data", stages.data(self.project))
        if self.project.settings.data.augment.methods:
            self.result.dataset = self.keep("augment", stages.augment(self.project, self.result.dataset))

    def train(self) -> None:
        self.result.base = stages.base_model(self.project)
        assert self.result.dataset is not None
        if self.start is not None:
            self.result.trained = self.update(self.start, self.result.dataset, self.result.base)
        else:
            settings = searching.chosen_settings(self.project, self.result.dataset, self.result.base)
            outcome = stages.train(self.project, self.result.dataset, self.result.base, settings)
            self.result.trained = self.keep("train", outcome)
        made = self.result.trained
        if distilling.is_wanted(self.project.settings.train):
            made = self.result.distilled = self.distill(self.result.dataset, self.result.trained, self.result.base)
        if self.project.settings.train.preference.method != "none":
            aligned = stages.align(self.project, self.result.dataset, made, self.result.base)
            self.result.aligned = self.keep("align", aligned)
        if self.start is not None:
            made = self.result.aligned or made
            measured = updating.measure_forgetting(
                self.project, self.result.dataset, self.start, made, self.result.base
            )
            self.result.forgetting = self.keep("forgetting", measured)
        trainings.note_trainings(self.project)

    def distill(self, dataset: Artifact, trained: Artifact, base: Model) -> Artifact:
        """Train a student of the trained model, on answers that its teacher has written first where it learns texts."""
        if self.project.settings.train.distill.method == "answers":
            dataset = self.keep("teach", distilling.teach(self.project, dataset, trained, base))
        return self.keep("distill", distilling.distill(self.project, dataset, trained, base))

    def update(self, start: updating.Start, dataset: Artifact, base: Model) -> Artifact:
        """Go on from an earlier model with what is new in the dataset; that with a replay is the dataset from here."""
        self.start = start = updating.step_back(self.project, start, dataset)
        self.project.progress.say(f"Training goes on from {start.name}.")
        self.result.dataset = dataset = self.keep("update", updating.update(self.project, dataset, start))
        settings = updating.settings_of(self.project, start)
        return self.keep("train", stages.train(self.project, dataset, base, settings, start.trained))

    def merge(self) -> Model:
        """Return the tuned model as one folder."""
        result = self.result
        assert result.base is not None
        made = result.aligned or result.distilled or result.trained
        assert made is not None
        tuned = stages.tuned_model(self.project, made, result.base)
        merged, reused = stages.merge(self.project, tuned, result.base)
        if merged is not tuned:
            self.note("merge", reused)
        return merged

    def compress(self) -> None:
        project, base = self.project, self.result.base
        assert base is not None
        exported, reused = stages.export(project, base, stages.BASE_EXPORT)
        self.note(f"compress base to {stages.BASE_EXPORT}", reused)
        self.result.candidates = [stages.candidate(project, "base", exported, role="baseline")]
        merged = self.merge()
        if project.settings.compress.reference:
            self.result.candidates.append(stages.candidate(project, "tuned-transformers", merged))
        assert self.result.dataset is not None
        for plan in project.settings.compress.every_plan:
            *_, last = carry_out(project, plan, merged, self.result.dataset, self.note)
            kinds = project.settings.compress.exports_of(plan)
            refused = unfit_exports(project, last.model, kinds)
            for kind in kinds:
                if kind in refused:
                    project.progress.say(refused[kind])
                    self.result.unfit.append(refused[kind])
                    continue
                made = export_candidate(project, plan, last.model, kind, self.result.dataset, self.note)
                if made is not None:
                    self.result.candidates.append(made)
        self.result.candidates += provider_candidates(project)

    def evaluate(self) -> None:
        assert self.result.dataset is not None
        graders = grading_models(self.project, lambda: self.result.candidates)
        for item in self.result.candidates:
            outcome = stages.evaluate(self.project, item, self.result.dataset, graders=graders)
            self.result.reports[item.name] = self.keep(f"evaluate {item.name}", outcome)
        compared = self.keep("compare", stages.compare(self.project, self.result.candidates, self.result.reports))
        ethical, self.result.ethics = ethics_findings(
            self.project, self.result.candidates, self.result.dataset, self.note
        )
        forgotten = forgetting_findings(self.project, self.result.candidates)
        newest = findings.newest_release(self.project, self.result.dataset, graders)
        comparisons = msgspec.json.decode((compared.path / "comparisons.json").read_bytes(), type=list[Comparison])
        for item in self.result.candidates:
            scores = msgspec.json.decode(
                (self.result.reports[item.name].path / "scores.json").read_bytes(), type=list[Score]
            )
            own = tuple(found for found in comparisons if found.candidate == item.name)
            size = stages.size_of(self.project, item.model)
            found = findings.findings(self.project, item, self.result.candidates[0], self.result.reports, newest)
            found += (*ethical.get(item.name, ()), *forgotten.get(item.name, ()))
            self.result.scorecards.append(Scorecard(item, size, tuple(scores), own, findings=found))

    def bench(self) -> None:
        assert self.result.dataset is not None
        assert self.result.base is not None
        items = list(self.result.candidates[1:])
        if self.project.settings.bench.baseline:
            items.insert(0, stages.candidate(self.project, stages.REFERENCE, self.result.base, role="baseline"))
        self.result.bench = self.keep("bench", speed.bench(self.project, items, self.result.dataset))
        speeds = speed.read_speeds(self.result.bench)
        self.result.scorecards = [
            msgspec.structs.replace(card, speed=speeds.get(card.candidate.name)) for card in self.result.scorecards
        ]

    def release(self) -> None:
        from vivace.release import judge

        result = self.result
        proven, result.parity = parity_findings(self.project, result, self.note)
        result.scorecards = [
            msgspec.structs.replace(card, findings=(*card.findings, *proven.get(card.candidate.name, ())))
            for card in result.scorecards
        ]
        result.verdicts = judge(result.scorecards, self.project.objective)
        by_name = {verdict.candidate: verdict for verdict in result.verdicts}
        result.scorecards = [
            msgspec.structs.replace(card, verdict=by_name.get(card.candidate.name)) for card in result.scorecards
        ]
        parents = {f"report {name}": report.id for name, report in self.result.reports.items()}
        assert result.bench is not None
        assert result.dataset is not None
        parents |= {"bench": result.bench.id, "dataset": result.dataset.id}
        parents |= {item.name: item.model.artifact_id for item in result.candidates}
        if self.start is not None and self.start.release is not None:
            parents |= {"update of": self.start.release.id}
        papers = parity_papers(result.parity)
        for name, report in result.ethics.items():
            papers[name] = papers.get(name, {}) | {"ethics.json": ethics_json(report)}
        try:
            result.release = self.keep(
                "release", stages.release(self.project, result.scorecards, parents, result.dataset, papers)
            )
        except ReleaseRefused as refusal:
            told = " ".join([str(refusal), *result.unfit])
            result.refusal = f"{told}{measured_in_noise(result.verdicts, str(result.bench.facts.get('noise', '')))}"


def measured_in_noise(verdicts: Sequence[Verdict], noise: str) -> str:
    """Say how to measure anew where a refusal is for speed and other programs were busy meanwhile."""
    slow = any("p95" in reason.requirement and not reason.met for item in verdicts for reason in item.reasons)
    return f" {noise} Measure anew when it is quiet: --set bench.seed=1." if slow and noise else ""


def tuned(project: Project) -> tuple[Model, Artifact, Note]:
    """Return the tuned model as one folder, the dataset, and what notes further stages; make what is not there."""
    _check(project, "compress")
    loop = _Loop(project)
    loop.data()
    loop.train()
    assert loop.result.dataset is not None
    return loop.merge(), loop.result.dataset, loop.note


def run(project: Project, until: str = "release", origin: str = "") -> Result:
    """Run the stages up to `until` and return what they came to; a refused release is told in `refusal`.

    `origin` names the release or training run to go on from, with what is new in the data; empty: train afresh.
    """
    _check(project, until)
    loop = _Loop(project, origin)
    for name in UNTIL[: UNTIL.index(until) + 1]:
        getattr(loop, name)()
    if until == "release":
        from vivace.loop.report import write_report

        loop.result.report = write_report(project, loop.result)
    return loop.result


def _check(project: Project, until: str) -> None:
    """Raise `ConfigError` for settings of training that cannot come to what is asked for."""
    if project.settings.train.method == "prompt_tuning" and until not in ("data", "train"):
        raise ConfigError(
            'method = "prompt_tuning" in [train] makes no model that can be exported: its learned tokens are no '
            "weights of the base.",
            "Take lora, dora, rslora, qlora, ia3 or full, or stop at `vivace train`.",
        )
    searching.check_space(project.settings.train)
    distilling.check(project.settings.train)
    if UNTIL.index(until) >= UNTIL.index("evaluate"):
        findings.check_quality_metric(project)
