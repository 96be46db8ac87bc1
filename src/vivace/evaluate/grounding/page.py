"""The report on grounding to read: every answer with its claims marked."""

from html import escape

from vivace.domain import Score
from vivace.evaluate.grounding.answers import GroundingReport
from vivace.evaluate.grounding.support import Claim, Faithfulness

BLIND = (
    "A claim is looked up, not understood: a denial (“is not” for “is”), a wrong link between two facts that are both "
    "in the sources, and a conclusion that does not follow look supported; a claim in other words than the sources' "
    "may look unsupported. Questions and small talk are not checked."
)
MARKS = {"supported": "✓", "contradicted": "✗✗", "unsupported": "✗", "no claim": "·"}
STYLE = """body { margin: 0 auto; max-width: 860px; padding: 32px 20px; font: 16px/1.55 system-ui, sans-serif; }
mark { background: #ffe3e3; } mark.contradicted { background: #ffc9c9; border-bottom: 2px solid #c92a2a; }
.quiet { color: #7b8794; } section { border-top: 1px solid #e4e7eb; padding: 8px 0; } small { color: #52606d; }"""


def markdown(report: GroundingReport) -> str:
    """Return the report as Markdown; answers with something unsupported come first."""
    parts = ["# Grounding", lead(report), BLIND]
    for answer in _ordered(report):
        lines = [f"- {MARKS[claim.label]} {_cell(claim.text)}{_why(claim)}" for claim in answer.claims]
        parts.append(f"## {_cell(answer.id)}\n\n" + "\n".join(lines or ["- (empty)"]))
    return "\n\n".join(parts) + "\n"


def page(report: GroundingReport) -> str:
    """Return the report as a page without scripts; what is not supported is marked in the answer."""
    parts = [f"<h1>Grounding</h1><p>{escape(lead(report))}</p><p class=quiet>{escape(BLIND)}</p>"]
    for answer in _ordered(report):
        text = " ".join(_html_claim(claim) for claim in answer.claims)
        reasons = "".join(
            f"<br><small>{escape(claim.text[:60])}: {escape(_why(claim).strip(' ()'))}</small>"
            for claim in answer.claims
            if _bad(claim)
        )
        parts.append(f"<section><strong>{escape(answer.id)}</strong><p>{text}{reasons}</p></section>")
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Grounding</title>'
        f"<style>{STYLE}</style></head><body>{''.join(parts)}</body></html>\n"
    )


def lead(report: GroundingReport) -> str:
    """Say the figures in one paragraph."""
    if report.faithful is None or report.whole is None:
        return f"{len(report.answers):,} answers, and none of them claims anything."
    told = ", ".join(f"{count:,} {label}" for label, count in report.counts.items())
    parts = [
        f"{report.faithful.count:,} claims in {report.whole.count:,} answers: {_figure(report.faithful)} of the claims "
        f"are supported, {_figure(report.whole)} of the answers wholly.",
        f"Sentences: {told}.",
        "Looked up by words, numbers and names"
        + (f", and by meaning ({report.embedder})." if report.embedder else " alone."),
    ]
    if report.sourceless:
        parts.append(f"{len(report.sourceless):,} answers had no source: nothing in them counts as supported.")
    return " ".join(parts)


def _figure(score: Score) -> str:
    return f"{score.value:.1%} [{score.interval.low:.1%}, {score.interval.high:.1%}]"


def _ordered(report: GroundingReport) -> list[Faithfulness]:
    return sorted(report.answers, key=lambda each: (1.0 if each.share is None else each.share, each.id))


def _bad(claim: Claim) -> bool:
    return claim.label in ("contradicted", "unsupported")


def _why(claim: Claim) -> str:
    if not _bad(claim):
        return ""
    missing = f"; in no source: {', '.join(map(_cell, claim.missing))}" if claim.missing else ""
    nearest = f"; nearest, source {claim.source + 1}: “{_cell(claim.nearest)}”" if claim.source is not None else ""
    return f" ({claim.label}{missing}{nearest})"


def _html_claim(claim: Claim) -> str:
    if _bad(claim):
        return f'<mark class="{claim.label}" title="{escape(_why(claim).strip(" ()"))}">{escape(claim.text)}</mark>'
    quiet = ' class="quiet"' if claim.label == "no claim" else ""
    return f"<span{quiet}>{escape(claim.text)}</span>"


def _cell(text: str) -> str:
    short = " ".join(text.split())
    for char, safe in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`"), ("[", "\\["), ("]", "\\]")):
        short = short.replace(char, safe)
    return short
