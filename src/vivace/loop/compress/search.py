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
from vivace.loop import stages
from vivace.loop.compress.measure import Measurable, Measured, Row, measurable, measure, reference_of
from vivace.loop.compress.pruning import measure_sensitivity
from vivace.loop.compress.steps import Note
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
    project: Project, merged: Model, dataset: Artifact, goals: Goals, note: Note, tries: int = TRIES
) -> Found:
    """Look for the plan that loses least and meets the goals, making and measuring at most `tries` of them.

    Sensitivity decides what is made first, on conversations of the validation split, which the release's gate does not
    look at. A speed that turns out otherwise than foreseen corrects what comes next. Raises `ConfigError` for a project
    with too few such conversations.
    """
    _check(project, dataset)
    search = _Search(project, merged, dataset, goals, note)
    while sum(each.draft.changes for each in search.made) < tries:
        best = search.next()
        if best is None or search.judge(best) in ("met", "unproven"):
            break
    return search.found()


class _Search:
    """What is known so far: what was made, what it came to, and what is foreseen from that."""

    def __init__(self, project: Project, merged: Model, dataset: Artifact, goals: Goals, note: Note) -> None:
        self.project, self.merged, self.dataset, self.goals, self.note = project, merged, dataset, goals, note
        outcome = measure_sensitivity(project, merged, dataset)
        note("sensitivity", outcome.reused)
        self.costs = read_costs(outcome.artifact.path)
        self.weights = read_weights(merged.path)
        self.ways = _start(project, merged, dataset, note)
        self.measured, self.report = self._measure("the exports")
        self.anchors = _anchors(project, self.ways, self.measured, dataset)
        self.fixed_share = FIXED_SHARE
        self.made: list[Try] = []
        self.ended = ""

    def next(self) -> Forecast | None:
        """Return what is made next: of the drafts that meet the goals the one that is foreseen to lose least."""
        drafts = forecast(self.weights, self.costs, self.anchors, fixed_share=self.fixed_share)
        known = {each.draft for each in self.made}
        wanted = [each for each in drafts if meets(each, self.goals) and each.draft not in known]
        if not wanted:
            self.ended = _out_of_reach(drafts, self.goals)
            return None
        harmed = [each.foreseen.loss for each in self.made if each.outcome == "breaks"]
        if harmed and wanted[0].loss >= max(harmed):
            wanted = _otherwise(wanted, self.made)
        if not wanted:
            self.ended = "Every other mix is foreseen to lose more than those that broke."
            return None
        return wanted[0]

    def judge(self, best: Forecast) -> Outcome:
        """Make and measure a draft, where it changes anything, and return what came of it."""
        name = f"tuned-{best.draft.export}"
        if best.draft.changes:
            self.project.progress.say(
                f"Trying {best.draft.told}: foreseen {best.size_bytes / 1e6:,.0f} MB, {best.speedup:.1f}x, "
                f"{best.loss:+.2f} nats before healing."
            )
            plan = plan_of(best.draft, f"try-{len(self.made) + 1}", self.project.settings.compress)
            kind = best.draft.export
            self.ways += measurable(self.project, plan, kind, self.merged, self.dataset, self.note)
            self.measured, self.report = self._measure(f"try {len(self.made) + 1}")
            name = self.ways[-1].candidate.name
        tried = _judged(best, self.measured, name, self.goals)
        self.made.append(tried)
        self.project.progress.say(tried.told)
        if best.draft.changes:
            # What the export alone brings was measured; only what the levers bring is foreseen.
            anchor = next(each for each in self.anchors if each.export == best.draft.export)
            bare = self.anchors[0].token_s / anchor.token_s
            gained = max(0.01, tried.row.pace.decode_ratio.value)
            self.fixed_share = correct(self.fixed_share, best.speedup / bare, gained / bare)
        return tried.outcome

    def found(self) -> Found:
        """Return what the search came to."""
        chosen = next((place for place, each in enumerate(self.made) if each.outcome in ("met", "unproven")), None)
        ended, plan = self.ended or f"None of {len(self.made)} tries met the goals.", ""
        if chosen is None:
            ended += _more_healing(self.made, self.project.settings.compress.prune.heal_tokens)
        if chosen is not None:
            draft = self.made[chosen].draft
            ended = f"The tuned model meets the goals as {draft.export}, with nothing taken from it."
            if draft.changes:
                ended = "The goals are met."
                plan = plan_toml(plan_of(draft, "small", self.project.settings.compress))
        return Found(self.goals, tuple(self.made), self.measured, chosen, ended, plan, self.report)

    def _measure(self, what: str) -> tuple[Measured, Artifact]:
        measured, outcome = measure(self.project, self.ways, self.dataset, SPLIT)
        self.note(f"measure {what}", outcome.reused)
        return measured, outcome.artifact


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


def _start(project: Project, merged: Model, dataset: Artifact, note: Note) -> list[Measurable]:
    """Return the tuned model as it was, and in the weights of each export: what the search starts from."""
    ways = [reference_of(project, merged, note)]
    for kind in (kind for kind in project.settings.compress.exports if kind not in FOR_GPU_SERVERS):
        ways += measurable(project, PlanSettings(name="tuned"), kind, merged, dataset, note)
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
        elif outcome == "met" and not (kept.reference and kept.as_good(max(allowed, 1e-9))):
            outcome = "unproven"
        if not kept.reference:
            reasons.append(f"the tuned model's own {name.replace('_', ' ')} is 0, so that there is nothing to lose")
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


def _more_healing(made: Sequence[Try], tokens: int) -> str:
    """Say that longer healing helps, where pruning broke something; what it won back here is in docs/compress.md."""
    if not any(each.outcome == "breaks" and each.draft.prunes for each in made):
        return ""
    return f" Longer healing wins back most: raise heal_tokens in [compress.prune] ({tokens:,} now)."


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
