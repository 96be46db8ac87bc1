"""The whole loop: from files to a release, doing only what is not done yet."""

from pathlib import Path

import msgspec

from vivace.domain import Artifact, Candidate, Comparison, Model, Score, Scorecard, Verdict
from vivace.errors import ConfigError, ReleaseRefused
from vivace.loop import searching, stages, trainings
from vivace.loop.project import Project
from vivace.store.artifacts import Outcome


class Result(msgspec.Struct):
    """What the loop came to; fields stay None beyond the stage it was asked to stop at."""

    dataset: Artifact | None = None
    base: Model | None = None
    trained: Artifact | None = None
    aligned: Artifact | None = None  # trained on, on preferences; None without [train.preference]
    candidates: list[Candidate] = []
    scorecards: list[Scorecard] = []
    verdicts: list[Verdict] = []
    bench: Artifact | None = None
    release: Artifact | None = None
    refusal: str = ""
    report: Path | None = None
    reports: dict[str, Artifact] = {}
    worked: list[str] = []  # the stages that really ran this time


UNTIL = ("data", "train", "compress", "evaluate", "bench", "release")


class _Loop:
    """One pass over the stages, keeping note of which of them did work."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.result = Result()

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
        settings = searching.chosen_settings(self.project, self.result.dataset, self.result.base)
        outcome = stages.train(self.project, self.result.dataset, self.result.base, settings)
        self.result.trained = self.keep("train", outcome)
        if self.project.settings.train.preference.method != "none":
            aligned = stages.align(self.project, self.result.dataset, self.result.trained, self.result.base)
            self.result.aligned = self.keep("align", aligned)
        trainings.note_trainings(self.project)

    def compress(self) -> None:
        project, base = self.project, self.result.base
        assert base is not None
        assert self.result.trained is not None
        exported, reused = stages.export(project, base, stages.BASE_EXPORT)
        self.note(f"compress base to {stages.BASE_EXPORT}", reused)
        self.result.candidates = [stages.candidate(project, "base", exported, role="baseline")]
        tuned = stages.tuned_model(project, self.result.aligned or self.result.trained, base)
        merged, reused = stages.merge(project, tuned, base)
        if merged is not tuned:
            self.note("merge", reused)
        if project.settings.compress.reference:
            self.result.candidates.append(stages.candidate(project, "tuned-transformers", merged))
        for kind in project.settings.compress.exports:
            exported, reused = stages.export(project, merged, kind)
            self.note(f"compress to {kind}", reused)
            self.result.candidates.append(stages.candidate(project, f"tuned-{kind}", exported))

    def evaluate(self) -> None:
        assert self.result.dataset is not None
        for item in self.result.candidates:
            outcome = stages.evaluate(self.project, item, self.result.dataset)
            self.result.reports[item.name] = self.keep(f"evaluate {item.name}", outcome)
        compared = self.keep("compare", stages.compare(self.project, self.result.candidates, self.result.reports))
        comparisons = msgspec.json.decode((compared.path / "comparisons.json").read_bytes(), type=list[Comparison])
        for item in self.result.candidates:
            scores = msgspec.json.decode(
                (self.result.reports[item.name].path / "scores.json").read_bytes(), type=list[Score]
            )
            own = tuple(found for found in comparisons if found.candidate == item.name)
            size = sum(path.stat().st_size for path in item.model.path.rglob("*") if path.is_file())
            self.result.scorecards.append(Scorecard(item, size, tuple(scores), own))

    def bench(self) -> None:
        assert self.result.dataset is not None
        assert self.result.base is not None
        items = list(self.result.candidates[1:])
        if self.project.settings.bench.baseline:
            items.insert(0, stages.candidate(self.project, stages.REFERENCE, self.result.base, role="baseline"))
        self.result.bench = self.keep("bench", stages.bench(self.project, items, self.result.dataset))
        speeds = stages.read_speeds(self.result.bench)
        self.result.scorecards = [
            msgspec.structs.replace(card, speed=speeds.get(card.candidate.name)) for card in self.result.scorecards
        ]

    def release(self) -> None:
        from vivace.release import judge

        result = self.result
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
        try:
            result.release = self.keep(
                "release", stages.release(self.project, result.scorecards, parents, result.dataset)
            )
        except ReleaseRefused as refusal:
            result.refusal = str(refusal)


def run(project: Project, until: str = "release") -> Result:
    """Run the stages up to `until` and return what they came to; a refused release is told in `refusal`."""
    if project.settings.train.method == "prompt_tuning" and until not in ("data", "train"):
        raise ConfigError(
            'method = "prompt_tuning" in [train] makes no model that can be exported: its learned tokens are no '
            "weights of the base.",
            "Take lora, dora, rslora, qlora, ia3 or full, or stop at `vivace train`.",
        )
    searching.check_space(project.settings.train)
    loop = _Loop(project)
    for name in UNTIL[: UNTIL.index(until) + 1]:
        getattr(loop, name)()
    if until == "release":
        from vivace.loop.report import write_report

        loop.result.report = write_report(project, loop.result)
    return loop.result
