"""Find the plan that meets the goals: foresee, make, measure, correct, and stop where the domain's quality breaks."""

from collections.abc import Sequence
from typing import Any, Literal, cast

import msgspec
from msgspec import Struct

from vivace.compress.plans.forecast import (
    FIXED_SHARE,
    Anchor,
    Draft,
    Forecast,
    correct,
    forecast,
    meets,
    read_weights,
)
from vivace.compress.plans.goals import Goals
from vivace.compress.prune.costs import read_costs
from vivace.config.plan import FOR_GPU_SERVERS, Export, PlanSettings
from vivace.config.prune import PruneSettings
from vivace.config.settings import CompressSettings
from vivace.config.trim import TrimSettings
from vivace.domain import Artifact, Model
from vivace.errors import ConfigError, ModelError
from vivace.loop import compressed, compressing, pruning, stages
from vivace.loop.compressed import Measurable, Measured, Row
from vivace.loop.project import Project, inline_toml
from vivace.store import read_examples

TRIES = 3
FEWEST_QUESTIONS = 8
SPLIT: Literal["validation"] = "validation"

Outcome = Literal["met", "unproven", "breaks", "slow", "large"]
_WORDS = {
    "met": "meets the goals",
    "unproven": "meets the goals as measured, but its quality is within noise of the limit",
    "breaks": "loses more quality than the goal allows",
    "slow": "is slower than the goal",
    "large": "is larger than the goal",
}


class Try(Struct, frozen=True):
    """A draft that was made and measured: the row of its last step and what came of it."""

    draft: Draft
    foreseen: Forecast
    row: Row
    outcome: Outcome
    reasons: tuple[str, ...]

    @property
    def told(self) -> str:
        """Say what came of it."""
        return f"{self.draft.told}: {_WORDS[self.outcome]} ({'; '.join(self.reasons)})"


class Found(Struct, frozen=True):
    """What the search came to.

    `chosen` is the number of the try that is proposed, None where none meets the goals; `plan` that try as lines for
    `vivace.toml`, empty where the tuned model does as it is.
    """

    goals: Goals
    tries: tuple[Try, ...]
    measured: Measured
    chosen: int | None
    ended: str
    plan: str = ""
    report: Artifact | None = None


def find_plan(
    project: Project, merged: Model, dataset: Artifact, goals: Goals, note: compressing.Note, tries: int = TRIES
) -> Found:
    """Look for the plan that loses least and meets the goals, making and measuring at most `tries` of them.

    Sensitivity decides what is made first, on conversations of the validation split, which the release's gate does not
    look at. A speed that turns out otherwise than foreseen corrects what comes next. Raises `ConfigError` where nothing
    within reach could meet the goals.
    """
    _check(project, dataset)
    outcome = pruning.measure_sensitivity(project, merged, dataset)
    note("sensitivity", outcome.reused)
    sensitivities = read_costs(outcome.artifact.path)
    weights = read_weights(merged.path)
    start = _start(project, merged, dataset, note)
    anchored, _outcome = compressed.measure(project, start, dataset, SPLIT)
    anchors = _anchors(project, start, anchored, dataset)
    fixed_share = FIXED_SHARE
    made: list[Try] = []
    ways: list[Measurable] = list(start)
    ended, report = "", None
    while sum(each.draft.changes for each in made) < tries:
        if made and made[-1].outcome in ("met", "unproven"):
            ended = "The goals are met."
            break
        known = {each.draft for each in made}
        drafts = forecast(weights, sensitivities, anchors, fixed_share=fixed_share)
        wanted = [each for each in drafts if meets(each, goals) and each.draft not in known]
        harmed = [each.foreseen.loss for each in made if each.outcome == "breaks"]
        if not wanted:
            ended = _out_of_reach(drafts, goals)
            break
        if harmed and wanted[0].loss >= max(harmed):
            wanted = _otherwise(wanted, made)
            if not wanted:
                ended = "Every other mix is foreseen to lose more than those that broke."
                break
        best = wanted[0]
        if not best.draft.changes:
            made.append(_judged(best, anchored, f"tuned-{best.draft.export}", goals))
            continue
        project.progress.say(
            f"Trying {best.draft.told}: foreseen {best.size_bytes / 1e6:,.0f} MB, {best.speedup:.1f}x, "
            f"{best.loss:+.2f} nats before healing."
        )
        plan = plan_of(best.draft, f"try-{len(made) + 1}", project.settings.compress)
        ways += compressed.measurable(project, plan, best.draft.export, merged, dataset, note)
        measured, found = compressed.measure(project, ways, dataset, SPLIT)
        note(f"measure try {len(made) + 1}", found.reused)
        anchored, report = measured, found.artifact
        made.append(_judged(best, measured, ways[-1].candidate.name, goals))
        project.progress.say(made[-1].told)
        gained = made[-1].row.pace.decode_ratio.value
        fixed_share = correct(fixed_share, best.speedup, max(0.01, gained))
    chosen = next((number for number, each in enumerate(made) if each.outcome in ("met", "unproven")), None)
    plan_text = ""
    if chosen is not None:
        ended = "The goals are met."
        if made[chosen].draft.changes:
            plan_text = plan_toml(plan_of(made[chosen].draft, "small", project.settings.compress))
        else:
            ended = f"The tuned model meets the goals as {made[chosen].draft.export}, with nothing taken from it."
    ended = ended or f"None of {len(made)} tries met the goals."
    return Found(goals, tuple(made), anchored, chosen, ended, plan_text, report)


def plan_of(draft: Draft, name: str, settings: CompressSettings) -> PlanSettings:
    """Return a draft as a plan; how it is pruned, healed and trimmed is as [compress] says."""
    prune = settings.prune.model_copy(update={"layers": draft.layers, "channels": draft.channels, "heads": 1.0})
    method: Literal["none", "domain"] = "domain" if draft.keep < 1 else "none"
    trim = settings.trim.model_copy(update={"method": method, "keep": draft.keep})
    return PlanSettings(
        name=name,
        prune=prune if draft.layers < 1 or draft.channels < 1 else PruneSettings(),
        trim=trim if draft.keep < 1 else TrimSettings(),
        exports=[cast(Export, draft.export)],
    )


def plan_toml(plan: PlanSettings) -> str:
    """Return a plan as the lines of a table `[[compress.plans]]`; what is as by default is left out."""
    values = plan.model_dump(mode="json", exclude_defaults=True)
    return "\n".join(["[[compress.plans]]", *(f"{key} = {inline_toml(value)}" for key, value in values.items())]) + "\n"


def _check(project: Project, dataset: Artifact) -> None:
    count = sum(1 for _ in read_examples(dataset.path / "examples.jsonl", SPLIT))
    if count < FEWEST_QUESTIONS:
        raise ConfigError(
            f"{count} validation conversations are too few to choose a plan by.",
            "Raise validation_fraction in [data], or add conversations.",
        )
    if not set(project.settings.compress.exports) - FOR_GPU_SERVERS:
        raise ConfigError("exports in [compress] names none that runs here.", 'Name one, such as "openvino-int8".')


def _start(project: Project, merged: Model, dataset: Artifact, note: compressing.Note) -> list[Measurable]:
    """Return the tuned model as it was, and in the weights of each export: what the search starts from."""
    ways = [compressed.reference_of(project, merged, note)]
    for kind in (kind for kind in project.settings.compress.exports if kind not in FOR_GPU_SERVERS):
        ways += compressed.measurable(project, PlanSettings(name="tuned"), kind, merged, dataset, note)
    return ways


def _anchors(project: Project, start: Sequence[Measurable], measured: Measured, dataset: Artifact) -> list[Anchor]:
    """Return the exports of the tuned model with what each costs in nats per answer token; the first is today's."""
    losses = {}
    for item in start:
        facts = stages.evaluate(project, item.candidate, dataset, SPLIT).artifact.facts
        losses[item.candidate.name] = facts["scores"].get("loss")
    whole = losses[measured.rows[0].name]
    anchors = []
    for row in measured.rows[1:]:
        loss = losses[row.name]
        cost = 0.0 if loss is None or whole is None else max(0.0, loss - whole)
        anchors.append(Anchor(row.export, row.size_bytes, row.pace.token_ms / 1e3, cost))
    return anchors


def _judged(best: Forecast, measured: Measured, name: str, goals: Goals) -> Try:
    row = next(each for each in measured.rows if each.name == name)
    gained = row.pace.decode_ratio.value
    reasons = [f"{gained:.2f}x decoding", f"{row.size_bytes / 1e6:,.0f} MB"]
    outcome: Outcome = "met"
    for name in ("token_f1", "rouge_l"):
        kept = row.domain.of(name)
        if kept is None:
            raise ModelError(f"{name} of {row.name} is not known.", "Look into the evaluation's report.")
        reasons.append(f"{kept.share:.1%} of {name.replace('_', ' ')}")
        allowed = (1 - goals.quality) * kept.reference
        if kept.share < goals.quality or kept.interval.high < -allowed:
            outcome = "breaks"
        elif outcome == "met" and not kept.as_good(max(allowed, 1e-9)):
            outcome = "unproven"
    for part in row.domain.broken:
        reasons.append(f"{part.field} {part.value} breaks")
        outcome = "breaks"
    if gained < goals.speedup:
        outcome = "slow" if outcome != "breaks" else outcome
    too_large = goals.max_size_bytes is not None and row.size_bytes > goals.max_size_bytes
    if too_large or (goals.max_parameters is not None and row.parameters > goals.max_parameters):
        outcome = "large" if outcome != "breaks" else outcome
    return Try(best.draft, best, row, outcome, tuple(reasons))


def _otherwise(wanted: Sequence[Forecast], made: Sequence[Try]) -> list[Forecast]:
    """Return the drafts that lean on other levers than those that broke: fewer layers kept, or fewer channels."""
    broken = [each.draft for each in made if each.outcome == "breaks"]
    return [
        each
        for each in wanted
        if all(each.draft.layers > draft.layers or each.draft.channels > draft.channels for draft in broken)
    ]


def _out_of_reach(drafts: Sequence[Forecast], goals: Goals) -> str:
    smallest = min(drafts, key=lambda each: each.size_bytes)
    fastest = max(drafts, key=lambda each: each.speedup)
    return (
        f"No mix within reach is foreseen to come to {goals.told()}: the smallest would have "
        f"{smallest.size_bytes / 1e6:,.0f} MB ({smallest.draft.told}), the fastest {fastest.speedup:.1f}x "
        f"({fastest.draft.told})."
    )


def as_json(found: Found) -> dict[str, Any]:
    """Return everything found, for programs."""
    told: dict[str, Any] = msgspec.to_builtins(msgspec.structs.replace(found, report=None))
    return told | {"report": str(found.report.path) if found.report else ""}
