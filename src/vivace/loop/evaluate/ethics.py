"""Bias, harm and leaks: the base and a candidate probed alike, compared, held against the limits of the project."""

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from msgspec import Struct

from vivace.config.data import DataSettings
from vivace.domain import Artifact, Candidate, Example, Progress, Reason, Workspace
from vivace.errors import ConfigError, DataError
from vivace.evaluate.ethics import (
    EthicsReport,
    Finder,
    Plan,
    Secret,
    Signals,
    detect_refusal,
    load_ethics,
    load_heard,
    make_plan,
    make_report,
    probe,
    reasons,
    write_ethics,
)
from vivace.evaluate.ethics.composition import Mentions, count_mentions
from vivace.evaluate.ethics.groups import BUILT_IN, read_dimensions
from vivace.evaluate.ethics.inventory import find_secrets
from vivace.loop.evaluate.ethics_page import render
from vivace.loop.project import Project, open_project, table
from vivace.registry import nearest
from vivace.store import read_examples
from vivace.store.artifacts import Outcome
from vivace.store.files import sha256_file, write_atomic

PAGE = "ethics.html"
REVISION = 1
FILES = ("groups", "pairs", "refusals", "injections")
KINDS = ("email", "phone", "card", "iban", "ip_address", "url_token", "order_number")
LIMITS = (
    "enabled",
    "max_counterfactual_gap",
    "max_stereotype",
    "min_refusal",
    "max_over_refusal",
    "max_injection",
    "max_extracted",
    "max_toxicity",
)
"""Settings that change nothing in what is asked."""
Note = Callable[[str, bool], None]


class Exposed(Struct, frozen=True):
    """What the training data holds, before anything is learned from it."""

    secrets: tuple[Secret, ...]
    mentions: tuple[Mentions, ...]


class Probes:
    """The probes of a project on one dataset; the plan is made once, when a candidate has yet to be asked."""

    def __init__(self, project: Project, dataset: Artifact) -> None:
        self.project = project
        self.dataset = dataset
        self.settings = project.settings.evaluate

    @cached_property
    def plan(self) -> Plan:
        """What every candidate is asked."""
        with self.project.progress.task("Looking for groups and secrets in the data"):
            return make_plan(
                self._examples("train"),
                self._examples("test"),
                self.settings,
                self.project.root,
                personal=personal_finder(self.project.settings.data),
                system=str(self.project.chain.get("system", "")),
            )

    def probe(self, item: Candidate) -> Outcome:
        """Ask a candidate everything; what was asked before is not asked again."""

        def work(workspace: Workspace) -> dict[str, Any]:
            return probe(item, self.plan, self.settings, workspace, threads=self.project.settings.serve.threads)

        return self.project.store.run(
            "probe_ethics",
            work,
            kind="report",
            settings=self._asked() | {"chain": item.chain, "engine": item.engine},
            parents=self._sources() | {"model": item.model.artifact_id or self.project.digest(item.model.path)},
            progress=self.project.progress,
            revision=REVISION,
        )

    def report(self, item: Candidate, base: Candidate | None, note: Note | None = None) -> EthicsReport:
        """Probe a candidate and the base and return what was found of both; each stage runs only where it has to."""
        probed = {}
        for each in (base, item):
            if each is not None:
                outcome = self.probe(each)
                probed[each.name] = outcome.artifact
                if note is not None:
                    note(f"probe {each.name}", outcome.reused)

        def work(workspace: Workspace) -> dict[str, Any]:
            heard = {name: load_heard(artifact.path) for name, artifact in probed.items()}
            before = (base.name, heard[base.name]) if base is not None else None
            made = make_report(self.plan, (item.name, heard[item.name]), before, signals(), self.settings)
            write_ethics(made, workspace.out)
            return {"candidate": item.name, "base": made.base, "findings": len(made.findings)}

        asked = self._asked() | {name: getattr(self.settings, name) for name in ("confidence", "resamples", "seed")}
        outcome = self.project.store.run(
            "ethics",
            work,
            kind="report",
            settings=asked | {"names": list(probed)},
            parents=self._sources() | {name: artifact.id for name, artifact in probed.items()},
            progress=self.project.progress,
            revision=REVISION,
        )
        return load_ethics(outcome.artifact.path)

    def _examples(self, split: Any) -> list[Example]:
        return list(read_examples(self.dataset.path / "examples.jsonl", split))

    def _asked(self) -> dict[str, Any]:
        wanted = {key: value for key, value in table(self.settings.ethics).items() if key not in LIMITS}
        return wanted | {"max_tokens": self.settings.max_tokens, "concurrency": self.settings.concurrency}

    def _sources(self) -> dict[str, str]:
        """Return the dataset and the user's files by their content."""
        files = {name: getattr(self.settings.ethics, name) for name in FILES}
        paths = {name: self.project.root / file for name, file in files.items() if file}
        found = {name: self.project.digest(path) for name, path in paths.items() if path.is_file()}
        return found | {"dataset": self.dataset.id, "built-in groups": sha256_file(BUILT_IN)}


def ethics_findings(
    project: Project, items: Sequence[Candidate], dataset: Artifact, note: Note | None = None
) -> tuple[dict[str, tuple[Reason, ...]], dict[str, EthicsReport]]:
    """Return the reasons for the gate and the reports, by candidate; none where [evaluate.ethics] is not switched on.

    The first of `items` is the base; it has none.
    """
    if not project.settings.evaluate.ethics.enabled:
        return {}, {}
    probes = Probes(project, dataset)
    base, *others = items
    reports = {item.name: probes.report(item, base, note) for item in others}
    if reports:
        write_page(project, list(reports.values()))
    limits = project.settings.evaluate.ethics
    return {name: tuple(reasons(report, limits)) for name, report in reports.items()}, reports


def evaluate_ethics(
    start: Path, progress: Progress, *, names: Sequence[str] = (), changes: Iterable[str] = ()
) -> tuple[list[EthicsReport], dict[str, list[Reason]], Path]:
    """Probe candidates of the project and its base, whether that is switched on or not; write `ethics.html`.

    Without names: the candidate of the newest release, else the last one. Returns the reports, the reasons by
    candidate, and the page. Raises `ConfigError` for a name that is no candidate.
    """
    from vivace.loop.run import run

    with open_project(start, progress, changes=changes) as project:
        result = run(project, "compress")
        assert result.dataset is not None
        base, *others = result.candidates
        chosen = _chosen(project, names, {item.name: item for item in others})
        probes = Probes(project, result.dataset)
        reports = [probes.report(item, base) for item in chosen]
        told = {each.candidate: reasons(each, project.settings.evaluate.ethics) for each in reports}
        return reports, told, write_page(project, reports)


def expose(start: Path, progress: Progress, *, changes: Iterable[str] = ()) -> Exposed:
    """Return the secret-looking texts of the training data, and who it speaks of: before any training."""
    from vivace.loop.run import run

    with open_project(start, progress, changes=changes) as project:
        dataset = run(project, "data").dataset
        assert dataset is not None
        wanted = project.settings.evaluate.ethics
        dimensions = read_dimensions(wanted.dimensions, project.root / wanted.groups if wanted.groups else None)
        train = list(read_examples(dataset.path / "examples.jsonl", "train"))
        with progress.task("Looking for groups and secrets in the data"):
            secrets = find_secrets(train, personal_finder(project.settings.data)) if wanted.secrets else []
            return Exposed(tuple(secrets), tuple(count_mentions(train, dimensions, project.settings.evaluate)))


def personal_finder(settings: DataSettings) -> Finder:
    """Return what finds the personal data that the data stage has rules for, whichever of it is redacted."""
    from vivace.data.privacy.redaction import Redactor

    redactor = Redactor(settings.model_copy(update={"redact": list(KINDS)}))

    def find(example: Example) -> list[tuple[int, str, int, int]]:
        found, before = [], ""
        for turn, message in enumerate(example.messages):
            spans = redactor.find(message.content, before)
            found += [(turn, kind, span.start, span.end) for kind, span in spans]
            before = message.content or before
        return found

    return find


def signals() -> Signals:
    """Return the detectors: toxic words as the data stage knows them, refusals as the metric does."""
    from vivace.data.toxicity import toxicity

    return Signals(lambda text: toxicity(text)[0], detect_refusal)


def write_page(project: Project, reports: Sequence[EthicsReport]) -> Path:
    """Write `ethics.html` beside `vivace.toml` and return its path."""
    target = project.root / PAGE
    told = [reasons(each, project.settings.evaluate.ethics) for each in reports]
    write_atomic(target, render(reports, told))
    return target


def _chosen(project: Project, names: Sequence[str], candidates: dict[str, Candidate]) -> list[Candidate]:
    if not candidates:
        raise DataError("There is no candidate beside the base.", "Name an export in [compress] exports.")
    for name in names:
        if name not in candidates:
            raise ConfigError(f"{name!r} is no candidate of this project.", nearest(name, list(candidates)))
    if names:
        return [candidates[name] for name in names]
    released = [item.facts.get("candidate") for item in project.store.artifacts("release")]
    return [next((candidates[name] for name in released if name in candidates), list(candidates.values())[-1])]
