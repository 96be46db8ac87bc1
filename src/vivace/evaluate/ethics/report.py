"""The report of what was probed for bias, harm and leaks: as JSON, as Markdown, and loaded again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.domain import Score
from vivace.errors import DataError
from vivace.evaluate.ethics.composition import Mentions
from vivace.evaluate.ethics.contrast import Contrast
from vivace.evaluate.ethics.figures import Finding
from vivace.evaluate.report import cell
from vivace.store.files import write_atomic

NAME = "ethics.json"
PAGE = "ethics.md"
TITLES = {
    "swaps": "Counterfactual swaps: the same conversation, another group",
    "pairs, whole sentence": "Stereotypes by likelihood (log-likelihood of the whole sentence)",
    "pairs, per token": "Stereotypes by likelihood (log-likelihood per token)",
    "requests": "Requests that must be refused, and requests that must not",
    "injection": "Instructions hidden in documents",
    "answers": "Answers to the test conversations and requests",
    "secrets": "Secrets of the training data",
}
LEGENDS = {
    "swaps": "Mean difference, one group less the first of its dimension. token_f1, refused, toxic and sentiment are "
    "on a scale of 0 to 1 (sentiment 0.5 is neutral), words are counted.",
    "pairs, whole sentence": "Share of pairs whose stereotype is likelier; 0.5 is no preference. The layout is that of "
    "CrowS-Pairs (Nangia et al. 2020); many of its pairs do not measure what they claim (Blodgett et al. 2021): a "
    "probe, no verdict.",
    "pairs, per token": "The same pairs, each sentence's log-likelihood divided by its tokens.",
    "requests": "refusal: of harmful requests, more is better. over_refusal: of harmless ones, less is better.",
    "injection": "Share of attacks that were followed, as rules tell; what the answer to the clean document shows is "
    "not counted. Rules by words are weaker than markers.",
    "answers": "toxic: answers with a word that many lists name; a signal, no verdict. refused: of the test questions.",
    "secrets": "extracted: a greedy continuation of the text before it gives the secret. learned: the candidate gives "
    "it and the base does not. exposure: log2 of the secrets compared less log2 of the rank (Carlini et al. 2019).",
}


class Named(Struct, frozen=True):
    """A secret-looking text of the training data, veiled, with its place and what the models know of it."""

    kind: str
    veiled: str
    source: str
    turn: int
    role: str
    occurrences: int
    extracted: bool | None = None
    base_extracted: bool | None = None
    exposure: float | None = None
    base_exposure: float | None = None


class Case(Struct, frozen=True):
    """Something to read: what was asked, what came back, and why it is shown."""

    part: str
    why: str
    asked: str
    answer: str


class EthicsReport(Struct, frozen=True):
    """Everything that was found; `base` is empty where only the candidate was probed."""

    candidate: str
    base: str
    findings: tuple[Finding, ...]
    secrets: tuple[Named, ...]
    mentions: tuple[Mentions, ...]
    cases: tuple[Case, ...]
    notes: tuple[str, ...]
    failed: dict[str, str]
    settings: dict[str, Any]
    version: str

    @property
    def tried(self) -> int:
        """How many secrets were tried on the model."""
        return sum(each.extracted is not None for each in self.secrets)

    def of(self, part: str) -> list[Finding]:
        """Return the findings of a part."""
        return [each for each in self.findings if each.part == part]


def write_ethics(report: EthicsReport, folder: Path) -> None:
    """Write the report's files into `folder`."""
    write_atomic(folder / PAGE, markdown(report))
    write_atomic(folder / NAME, ethics_json(report))


def ethics_json(report: EthicsReport) -> bytes:
    """Return the report as programs read it."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1) + b"\n"


def load_ethics(folder: Path) -> EthicsReport:
    """Read the report that `write_ethics` wrote; raises `DataError` when it is absent or damaged."""
    try:
        return msgspec.json.decode((folder / NAME).read_bytes(), type=EthicsReport)
    except FileNotFoundError as error:
        raise DataError(f"{folder} holds no {NAME}.", "Run `vivace evaluate ethics`.") from error
    except msgspec.MsgspecError as error:
        raise DataError(f"{folder / NAME} is damaged: {error}.", "Run `vivace evaluate ethics` again.") from error


def markdown(report: EthicsReport) -> str:
    """Return the report for people."""
    against = f", compared with {report.base}" if report.base else ""
    parts = [f"# Bias, harm and leaks: {report.candidate}{against}", *summary(report)]
    for part, title in TITLES.items():
        if found := report.of(part):
            parts += [f"## {title}", LEGENDS[part], _table(found)]
        if part == "secrets" and report.secrets:
            parts += ["### Every secret-looking text", _secrets(report.secrets)]
    if report.mentions:
        parts += ["## Who the training data speaks of", _mentions(report.mentions)]
        parts += [each.warning for each in report.mentions if each.warning]
    if report.cases:
        parts += ["## To read", _cases(report.cases)]
    if report.failed:
        parts += ["## Not answered", "\n".join(f"- {key}: {cell(why)}" for key, why in report.failed.items())]
    if report.notes:
        parts += ["## What was asked", "\n".join(f"- {note}" for note in report.notes)]
    return "\n\n".join(parts) + "\n"


def summary(report: EthicsReport) -> list[str]:
    """Return in sentences what differs beyond chance, after correction for the number of tests of its part."""
    lines = []
    for part, title in TITLES.items():
        found = report.of(part)
        if not found:
            continue
        name = title.split(":")[0].split(" (")[0]
        shown = [each for each in found if each.shown]
        tested = [each for each in found if each.p_adjusted is not None]
        if tested:
            what = "; ".join(f"{each.group or each.metric} {each.metric} {told(each.candidate)}" for each in shown[:5])
            more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
            lines.append(
                f"{name}: {len(shown)} of {len(tested)} figures differ from no bias beyond chance"
                + (f": {what}{more}." if shown else ".")
            )
        changed = [each for each in found if each.change is not None and each.change.shown]
        compared = [each for each in found if each.change is not None]
        if compared:
            what = "; ".join(f"{each.group or ''} {each.metric} {moved(each.change)}".strip() for each in changed[:5])
            lines.append(
                f"{name}: {len(changed)} of {len(compared)} changed from {report.base} beyond chance"
                + (f": {what}." if changed else ".")
            )
    if report.secrets:
        lines.append(f"The training data holds {len(report.secrets)} secret-looking texts; {report.tried} were tried.")
    return lines


def told(score: Score) -> str:
    """Return a score with its interval, as a share or in its unit."""
    low, high = score.interval.low, score.interval.high
    digits = 1 if score.unit else 3
    unit = f" {score.unit}" if score.unit else ""
    return f"{score.value:.{digits}f}{unit} [{low:.{digits}f}, {high:.{digits}f}]"


def moved(change: Contrast | None) -> str:
    """Return a paired change with its interval and corrected p-value."""
    if change is None:
        return "–"
    low, high = change.interval.low, change.interval.high
    return f"{change.difference:+.3f} [{low:+.3f}, {high:+.3f}] p {change.p_adjusted:.3g}"


def _table(found: Sequence[Finding]) -> str:
    lines = [
        "| what | candidate | base | change, paired | p of no bias | count |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for each in found:
        name = f"{each.metric} {each.group}".strip()
        base = "–" if each.base is None else told(each.base)
        p_value = "–" if each.p_adjusted is None else f"{each.p_adjusted:.3g}"
        row = (name, told(each.candidate), base, moved(each.change), p_value, str(each.candidate.count))
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _secrets(secrets: Sequence[Named]) -> str:
    lines = [
        "| kind | shape | file and row | turn | times | extracted (base) | exposure, bits (base) |",
        "| --- | --- | --- | --- | ---: | --- | --- |",
    ]
    for each in secrets:
        row = (
            each.kind,
            cell(each.veiled),
            cell(each.source),
            f"{each.turn + 1}, {each.role}",
            str(each.occurrences),
            f"{_yes(each.extracted)} ({_yes(each.base_extracted)})",
            f"{_bits(each.exposure)} ({_bits(each.base_exposure)})",
        )
        lines.append(f"| {' | '.join(row)} |")
    return "\n".join(lines)


def _mentions(mentions: Sequence[Mentions]) -> str:
    lines = ["| dimension | conversations that mention it | shares of the mentions |", "| --- | ---: | --- |"]
    for each in mentions:
        shares = ", ".join(
            f"{name} {score.value:.0%} [{score.interval.low:.0%}, {score.interval.high:.0%}]"
            for name, score in each.shares.items()
        )
        lines.append(f"| {each.dimension} | {each.mentioning:,} of {each.conversations:,} | {shares or 'none'} |")
    return "\n".join(lines)


def _cases(cases: Sequence[Case]) -> str:
    lines = ["| part | why | asked | answer |", "| --- | --- | --- | --- |"]
    lines += [f"| {each.part} | {cell(each.why)} | {cell(each.asked)} | {cell(each.answer)} |" for each in cases]
    return "\n".join(lines)


def _yes(value: bool | None) -> str:
    return "not tried" if value is None else "yes" if value else "no"


def _bits(value: float | None) -> str:
    return "–" if value is None else f"{value:.1f}"
