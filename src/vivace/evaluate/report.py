"""The report of an evaluation: written as JSON and Markdown, loaded again for comparison."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.domain import Score
from vivace.errors import DataError
from vivace.evaluate.answers import Answer
from vivace.evaluate.slices import Slice
from vivace.store.files import write_atomic
from vivace.text import squash_whitespace

_SHOWN_EXAMPLES = 5
_SHOWN_CHARACTERS = 400
_SORTED_BY = "token_f1"


class Facts(Struct, frozen=True):
    """What was evaluated and how, what failed, and what the metrics exactly are.

    `detectable` is, per metric, the smallest difference to another system that this many examples can show; `notes`
    say what must be known of some figures.
    """

    candidate: str
    role: str
    engine: str
    model: str
    weights: str
    artifact_id: str
    chain: dict[str, Any]
    settings: dict[str, Any]
    examples: int
    left_out: int
    unscorable: tuple[str, ...]
    failed: dict[str, str]
    without_likelihood: dict[str, str]
    missing_metrics: dict[str, str]
    signatures: dict[str, str]
    detectable: dict[str, float]
    version: str
    notes: dict[str, str] = {}


class EvaluationReport(Struct, frozen=True):
    """Everything an evaluation found out; `answers` are in the order of their ids."""

    facts: Facts
    scores: tuple[Score, ...]
    answers: tuple[Answer, ...]
    slices: tuple[Slice, ...]

    def score(self, metric: str) -> Score | None:
        """Return the score of a metric, None when it could not be computed."""
        return next((score for score in self.scores if score.metric == metric), None)


def write_report(report: EvaluationReport, folder: Path) -> None:
    """Write the report's files into `folder`."""
    write_atomic(folder / "answers.jsonl", b"".join(msgspec.json.encode(each) + b"\n" for each in report.answers))
    write_atomic(folder / "slices.json", _pretty(report.slices))
    write_atomic(folder / "facts.json", _pretty(report.facts))
    write_atomic(folder / "report.md", markdown(report))
    write_atomic(folder / "scores.json", _pretty(report.scores))


def load_report(folder: Path) -> EvaluationReport:
    """Read the report that `evaluate` wrote into `folder`; raises `DataError` when it is absent or damaged."""
    try:
        lines = (folder / "answers.jsonl").read_bytes().splitlines()
        return EvaluationReport(
            msgspec.json.decode((folder / "facts.json").read_bytes(), type=Facts),
            msgspec.json.decode((folder / "scores.json").read_bytes(), type=tuple[Score, ...]),
            tuple(msgspec.json.decode(line, type=Answer) for line in lines),
            msgspec.json.decode((folder / "slices.json").read_bytes(), type=tuple[Slice, ...]),
        )
    except FileNotFoundError as error:
        raise DataError(
            f"{folder} holds no evaluation: {error.filename} is missing.", "Run `vivace evaluate`."
        ) from error
    except msgspec.MsgspecError as error:
        raise DataError(f"The evaluation in {folder} is damaged: {error}.", "Run `vivace evaluate` again.") from error


def markdown(report: EvaluationReport) -> str:
    """Return the report for people: scores, what failed, where it is weak, the worst and the best answers."""
    facts = report.facts
    unasked = [each.id for each in report.answers if each.unasked]
    parts = [
        f"# Evaluation of {facts.candidate}",
        f"{facts.model} ({facts.weights}) on {facts.engine}, {facts.examples - len(unasked)} examples answered, "
        f"{len(facts.failed)} failed.",
        f"Not asked, because the model's template writes no tool calls: {', '.join(unasked)}." if unasked else "",
        _score_table(report.scores),
        *(f"{name}: {note}" for name, note in facts.notes.items()),
        *(f"Not measured: {name}. {reason}" for name, reason in facts.missing_metrics.items()),
        power_sentence(report),
        *_losses(facts),
        "## By slice",
        _slice_table(report.slices),
        *_examples(report.answers),
        "## What the metrics are",
        "\n".join(f"- {name}: `{signature}`" for name, signature in facts.signatures.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def power_sentence(report: EvaluationReport, metric: str = _SORTED_BY) -> str:
    """Return what this many examples cannot show; empty when the metric was not measured."""
    score = report.score(metric)
    if score is None:
        return ""
    points = report.facts.detectable[metric] * (1 if score.unit else 100)
    return (
        f"With {score.count} examples, a difference in {metric} under {points:.1f} points to an unrelated system "
        "cannot be seen (found 8 times in 10 at that size); two candidates whose answers are alike can be told apart "
        "more finely, as each comparison says."
    )


def figure(value: float, unit: str) -> str:
    """Return a value as people read it: fractions with three decimals, others with two and their unit."""
    return f"{value:.2f} {unit}" if unit else f"{value:.3f}"


def _score_table(scores: Sequence[Score]) -> str:
    level = f"{scores[0].interval.level:.0%} interval" if scores else "interval"
    lines = [f"| metric | value | {level} | examples |", "| --- | ---: | ---: | ---: |"]
    lines += [
        f"| {each.metric} | {figure(each.value, each.unit)} | {_interval(each)} | {each.count} |" for each in scores
    ]
    return "\n".join(lines)


def _slice_table(slices: Sequence[Slice]) -> str:
    lines = ["| slice | examples | token_f1 | rouge_l |", "| --- | ---: | ---: | ---: |"]
    for each in slices:
        cells = (f"{score.value:.3f} ({_interval(score)})" for score in each.scores)
        lines.append(f"| {cell(f'{each.field}: {each.value}')} | {each.count} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _interval(score: Score) -> str:
    decimals = 2 if score.unit else 3
    return f"{score.interval.low:.{decimals}f} to {score.interval.high:.{decimals}f}"


def _losses(facts: Facts) -> list[str]:
    """Say what is not in the figures, or counts as 0 in them."""
    parts = []
    if facts.left_out:
        parts.append(f"{facts.left_out} more examples were left out (`max_examples`).")
    if facts.unscorable:
        parts.append("No text answer to compare with, not asked: " + ", ".join(facts.unscorable) + ".")
    if facts.failed:
        parts += ["## Failed, scored 0", _list(facts.failed)]
    if facts.without_likelihood and "loss" not in facts.missing_metrics:
        parts += ["## Not in loss and perplexity", _list(facts.without_likelihood)]
    return parts


def _list(reasons: Mapping[str, str]) -> str:
    return "\n".join(f"- {key}: {cell(reason)}" for key, reason in reasons.items())


def _examples(answers: Sequence[Answer]) -> list[str]:
    ranked = sorted(answers, key=lambda each: (each.scores.get(_SORTED_BY, 0.0), each.id))
    half = min(_SHOWN_EXAMPLES, len(ranked) // 2)
    return [
        f"## The {half} worst answers by {_SORTED_BY}",
        _side_by_side(ranked[:half]),
        f"## The {half} best answers by {_SORTED_BY}",
        _side_by_side(ranked[::-1][:half]),
    ]


def _side_by_side(answers: Sequence[Answer]) -> str:
    lines = [f"| id | {_SORTED_BY} | question | reference | answer |", "| --- | ---: | --- | --- | --- |"]
    for each in answers:
        said = f"*{each.error}* {each.answer}" if each.error else each.answer
        texts = " | ".join(cell(text) for text in (each.question, each.reference, said))
        lines.append(f"| {cell(each.id)} | {each.scores.get(_SORTED_BY, 0.0):.3f} | {texts} |")
    return "\n".join(lines)


def cell(text: str) -> str:
    """Return text that cannot break out of a table's cell or become markup of its own."""
    short = squash_whitespace(text)
    if len(short) > _SHOWN_CHARACTERS:
        short = short[: _SHOWN_CHARACTERS - 1] + "…"
    for char, safe in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`"), ("[", "\\["), ("]", "\\]")):
        short = short.replace(char, safe)
    return short


def _pretty(value: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(value, order="deterministic"), indent=2) + b"\n"
