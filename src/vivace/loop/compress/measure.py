"""What every step of a plan costs and brings: quality by slice, general ability, speed, memory and size."""

import asyncio
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from vivace.bench.pace import AT_ONCE, Pace
from vivace.config.plan import PlanSettings
from vivace.domain import Artifact, Candidate, Example, Model, Split, Workspace
from vivace.errors import DataError
from vivace.evaluate.retention import Retention
from vivace.loop import stages
from vivace.loop.compress.steps import Note, carry_out
from vivace.loop.project import Project, table
from vivace.store import read_examples
from vivace.store.artifacts import Outcome
from vivace.store.files import sha256_file, write_atomic

STEPS = "steps.json"
REFERENCE_EXPORT = "openvino-fp16"


class Row(Struct, frozen=True):
    """A model after a step of a plan, exported and measured; `domain` and `general` compare it with the first row."""

    name: str
    plan: str
    step: str
    export: str
    size_bytes: int
    parameters: int
    domain: Retention
    general: Retention
    pace: Pace


class Measured(Struct, frozen=True):
    """All rows; quality is compared with the first, speed with `today`, the tuned model's first export.

    `split` is where the questions came from, `questions` how many.
    """

    rows: tuple[Row, ...]
    today: str
    split: str
    questions: int


class Measurable(Struct, frozen=True):
    """A step that waits to be measured: the candidate, and what it is a step of."""

    candidate: Candidate
    plan: str
    step: str
    export: str
    model: Model


def reference_of(project: Project, merged: Model, note: Note) -> Measurable:
    """Return the tuned model before anything was taken from it, as an engine reads it: 16-bit weights."""
    exported, reused = stages.export(project, merged, REFERENCE_EXPORT)
    note(f"compress to {REFERENCE_EXPORT}", reused)
    item = stages.candidate(project, f"tuned-{REFERENCE_EXPORT}", exported)
    return Measurable(item, "tuned", "tuned", REFERENCE_EXPORT, merged)


def measurable(
    project: Project, plan: PlanSettings, kind: str, merged: Model, dataset: Artifact, note: Note
) -> list[Measurable]:
    """Carry out a plan and export what each step made, so that each can be measured by itself.

    The first is the tuned model in the plan's weights: what quantizing alone costs.
    """
    made = []
    for step in carry_out(project, plan, merged, dataset, note):
        exported, reused = stages.export(project, step.model, kind, dataset)
        note(f"compress {plan.name} after {step.name} to {kind}", reused)
        name = f"{'tuned' if step.name == 'tuned' else f'{plan.name}-{step.name}'}-{kind}"
        item = stages.candidate(project, name, exported)
        tuned = step.name == "tuned"  # the same for every plan
        made.append(
            Measurable(item, "tuned" if tuned else plan.name, "quantize" if tuned else step.name, kind, step.model)
        )
    return made


def measure(project: Project, items: Sequence[Measurable], dataset: Artifact, split: Split) -> tuple[Measured, Outcome]:
    """Measure models beside the first of them; finished parts are kept, and the outcome is one report.

    Raises `DataError` where the split has no questions.
    """
    unique = list({item.candidate.name: item for item in items}.values())
    if not any(True for _ in read_examples(dataset.path / "examples.jsonl", split)):
        raise DataError(f"The dataset has no {split} conversation to measure on.", "Add conversations to [data].")
    domain = {each.candidate.name: stages.evaluate(project, each.candidate, dataset, split).artifact for each in unique}
    general = {each.candidate.name: probe(project, each.candidate).artifact for each in unique}
    settings = project.settings.evaluate

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.bench.pace import paces
        from vivace.compress.plans.forecast import read_weights
        from vivace.evaluate import load_report
        from vivace.evaluate.retention import retention

        asked = _questions(dataset, split, settings.max_examples)
        speeds = asyncio.run(
            paces(
                [each.candidate for each in unique],
                asked,
                workspace.scratch,
                workspace.progress,
                reference=today_of(unique),
                threads=project.settings.serve.threads,
            )
        )
        first = unique[0].candidate.name
        rows = []
        for each, pace in zip(unique, speeds, strict=True):
            name = each.candidate.name
            found = [
                msgspec.structs.replace(
                    retention(load_report(reports[name].path), load_report(reports[first].path), settings), model=name
                )
                for reports in (domain, general)
            ]
            size = stages.size_of(project, each.candidate.model)
            parameters = read_weights(each.model.path).total
            rows.append(Row(name, each.plan, each.step, each.export, size, parameters, found[0], found[1], pace))
        measured = Measured(tuple(rows), today_of(unique), split, domain[first].facts["examples"])
        write_atomic(workspace.out / STEPS, msgspec.json.format(msgspec.json.encode(measured), indent=1))
        broken = {row.name: [f"{part.field}: {part.value}" for part in row.domain.broken] for row in rows}
        return {"models": len(rows), "broken_slices": {name: parts for name, parts in broken.items() if parts}}

    parents = {f"domain {name}": report.id for name, report in domain.items()}
    parents |= {f"general {name}": report.id for name, report in general.items()}
    outcome = project.store.run(
        "steps",
        work,
        kind="report",
        settings=table(settings) | {"split": split, "steps": [[e.candidate.name, e.plan, e.step] for e in unique]},
        parents=parents | {"dataset": dataset.id},
        progress=project.progress,
    )
    return read_measured(outcome.artifact), outcome


def today_of(items: Sequence[Measurable]) -> str:
    """Return the name of what would be served today: the tuned model in the weights of its first export."""
    return next((each.candidate.name for each in items if each.step == "quantize"), items[0].candidate.name)


def read_measured(report: Artifact) -> Measured:
    """Return what a report of steps holds."""
    return msgspec.json.decode((report.path / STEPS).read_bytes(), type=Measured)


def probe(project: Project, item: Candidate) -> Outcome:
    """Ask a model sixty general questions: what it can besides the domain."""
    from vivace.evaluate import probe as room

    settings = project.settings.evaluate

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.evaluate import evaluate as examine

        bare = msgspec.structs.replace(item, chain={})
        return examine(bare, room.general_probe(), settings, workspace, threads=project.settings.serve.threads)

    return project.store.run(
        "probe",
        work,
        kind="report",
        settings=table(settings) | {"engine": item.engine, "questions": sha256_file(room.QUESTIONS)},
        parents={"model": item.model.artifact_id or project.digest(item.model.path)},
        progress=project.progress,
    )


def tell(measured: Measured) -> list[str]:
    """Say of each row in one line what was kept and what was gained, and name the slices that break."""
    lines = []
    for row in measured.rows:
        kept = ", ".join(
            f"{found.share:.1%} of {label} "
            f"({found.change:+.3f} [{found.interval.low:+.3f}, {found.interval.high:+.3f}])"
            for name, label in (("token_f1", "token F1"), ("rouge_l", "ROUGE-L"))
            if (found := row.domain.of(name)) is not None
        )
        pace = row.pace
        lines.append(
            f"{row.name}: {row.size_bytes / 1e6:,.0f} MB, {kept}; {pace.decode_ratio.value:.2f}x decoding, "
            f"{pace.throughput_ratio.value:.2f}x at {AT_ONCE} at once"
        )
        for part in row.domain.broken:
            lines.append(
                f"  {part.field} {part.value!r} breaks: {part.change or 0:+.3f} "
                f"[{part.interval.low:+.3f}, {part.interval.high:+.3f}], {part.count} questions"
            )
    return lines


def _questions(dataset: Artifact, split: Split, count: int) -> list[Example]:
    return list(read_examples(dataset.path / "examples.jsonl", split))[:count]
