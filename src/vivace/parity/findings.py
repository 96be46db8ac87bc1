"""What the proof finds: one line per hop and check, with the first place where something differs."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.domain import Reason, Score
from vivace.store.files import write_atomic

FILE = "parity.json"
REQUIREMENT = "answers as the trained model does"


class Place(Struct, frozen=True):
    """Where two renderings first differ: a token's position, and the text around it on both sides."""

    conversation: str
    position: int
    expected: str
    found: str


class Finding(Struct, frozen=True):
    """One check at one hop: what was expected, what was found, and, where they differ, the likely cause and a hint.

    `differing` of `of` conversations differ; `figure` is a measured distance with its interval.
    """

    hop: str
    check: str
    met: bool
    expected: str = ""
    found: str = ""
    cause: str = ""
    hint: str = ""
    differing: int = 0
    of: int = 0
    place: Place | None = None
    figure: Score | None = None


class ParityReport(Struct, frozen=True):
    """The proof for one candidate: its hops in their order and everything that was checked."""

    candidate: str
    hops: tuple[str, ...]
    findings: tuple[Finding, ...]
    conversations: int
    scored: int
    notes: tuple[str, ...] = ()

    @property
    def met(self) -> bool:
        """Whether nothing differs."""
        return all(finding.met for finding in self.findings)

    @property
    def broken(self) -> tuple[Finding, ...]:
        """What differs."""
        return tuple(finding for finding in self.findings if not finding.met)


def merge_reports(candidate: str, reports: Sequence[ParityReport]) -> ParityReport:
    """Return several parts of one proof as one, in their order."""
    hops = tuple(dict.fromkeys(hop for report in reports for hop in report.hops))
    return ParityReport(
        candidate,
        hops,
        tuple(finding for report in reports for finding in report.findings),
        max((report.conversations for report in reports), default=0),
        max((report.scored for report in reports), default=0),
        tuple(dict.fromkeys(note for report in reports for note in report.notes)),
    )


def reason(report: ParityReport) -> Reason:
    """Return what the gate looks at."""
    broken = report.broken
    if not broken:
        told = f"{len(report.findings)} checks at {len(report.hops)} hops, {report.conversations} conversations"
        return Reason(REQUIREMENT, True, told)
    first = broken[0]
    more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
    told = f"{first.hop}: {first.check} {first.cause or f'{first.found} instead of {first.expected}'}{more}"
    return Reason(REQUIREMENT, False, told, float(len(broken)))


def rows(findings: Iterable[Finding]) -> list[tuple[str, str, str, str]]:
    """Return hop, check, mark and what there is to say; what a hop's files say as they should is one line."""
    made: list[tuple[str, str, str, str]] = []
    alike: dict[str, list[str]] = {}
    for each in findings:
        if each.met and not each.of and each.figure is None:
            if each.hop not in alike:
                alike[each.hop] = []
                made.append((each.hop, "files", "same", ""))
            alike[each.hop].append(each.check)
        else:
            made.append((each.hop, each.check, "same" if each.met else "DIFFERS", say(each)))
    return [(hop, check, mark, text or ", ".join(alike[hop])) for hop, check, mark, text in made]


def say(finding: Finding) -> str:
    """Return a finding in words."""
    if finding.met:
        return finding.found
    parts = [finding.cause] if finding.cause else []
    if finding.of and finding.differing:
        parts.append(f"{finding.differing} of {finding.of} conversations")
    if finding.expected or finding.found:
        parts.append(f"expected {finding.expected or 'nothing'}, found {finding.found or 'nothing'}")
    if finding.place is not None:
        place = finding.place
        at = f"{place.conversation}, token {place.position}"
        parts.append(f"first in {at}: expected “{place.expected}”, found “{place.found}”")
    return "; ".join(parts)


def markdown(report: ParityReport) -> str:
    """Return the proof as Markdown."""
    lines = [
        f"# Parity of {report.candidate}",
        "",
        f"{' → '.join(report.hops)}; {report.conversations} conversations, {report.scored} scored.",
        "",
        "| hop | check | result | |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {' | '.join(_cell(part) for part in row)} |" for row in rows(report.findings)]
    lines += [f"- {finding.hop}, {finding.check}: {finding.hint}" for finding in report.broken if finding.hint]
    lines += [f"- {note}" for note in report.notes]
    return "\n".join(lines) + "\n"


def section(reports: Sequence[ParityReport]) -> dict[str, Any] | None:
    """Return what a page shows: a table of candidates and checks, and what differs, in plain values; None without."""
    if not reports:
        return None
    return {
        "candidates": [
            {
                "name": report.candidate,
                "met": report.met,
                "hops": " → ".join(report.hops),
                "conversations": report.conversations,
                "scored": report.scored,
                "checks": len(report.findings),
                "rows": [
                    {"hop": hop, "check": check, "met": mark == "same", "text": text}
                    for hop, check, mark, text in rows(report.findings)
                ],
                "hints": [finding.hint for finding in report.broken if finding.hint],
                "notes": list(report.notes),
            }
            for report in reports
        ]
    }


def parity_json(report: ParityReport) -> bytes:
    """Return the proof as the file that lies in a release."""
    return msgspec.json.format(msgspec.json.encode(report), indent=1)


def write_parity(report: ParityReport, folder: Path) -> None:
    """Write `parity.json` and `parity.md`."""
    write_atomic(folder / FILE, parity_json(report))
    write_atomic(folder / "parity.md", markdown(report))


def load_parity(folder: Path) -> ParityReport:
    """Read `parity.json` again."""
    return msgspec.json.decode((folder / FILE).read_bytes(), type=ParityReport)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
