"""The judge's report to read: Markdown, and a page with its plots drawn in place."""

from collections.abc import Sequence
from html import escape
from itertools import pairwise

from vivace.domain import Score
from vivace.evaluate.judge.calibration import Calibration
from vivace.evaluate.judge.results import JudgeReport

INK, ACCENT, FAINT = "#1f2933", "#0b7285", "#9aa5b1"
FIGURES = (
    ("agreement", "agreement with people"),
    ("kappa", "Cohen's kappa"),
    ("auc", "good against bad answers (AUC)"),
    ("length_auc", "the same by the answer's length alone"),
    ("ties", "share of ties"),
    ("flips", "verdicts that turn with the order"),
    ("position", "decided verdicts for the answer shown first"),
    ("length", "preference for length beyond people's"),
)
STYLE = """body { margin: 0 auto; max-width: 860px; padding: 32px 20px; font: 16px/1.55 system-ui, sans-serif; }
table { border-collapse: collapse; } th, td { text-align: right; padding: 4px 10px; border-bottom: 1px solid #e4e7eb; }
td:first-child, th:first-child { text-align: left; }"""
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 420, 260, 50, 40


def markdown(report: JudgeReport) -> str:
    """Return the report as Markdown."""
    parts = [f"# The judge {_cell(report.judge)}", f"{_cell(report.model)} on {report.engine}, read by {report.read}."]
    parts += [_cell(note) for note in report.notes]
    for title, found in (("Pairs", report.pairs), ("Scores", report.ratings)):
        parts += [f"## {title}: beside people", found.sentence, *found.notes, *_unread(found)]
        rows = figure_rows(found)
        if rows:
            parts.append(_table(["", "value", "95 % interval"], rows))
        if found.confusion:
            parts.append(_table(*_confusion(found)))
    parts += _results(report)
    if report.left_out:
        parts.append("Left out: " + ", ".join(f"{reason} ({count:,})" for reason, count in report.left_out.items()))
    return "\n\n".join(parts) + "\n"


def page(report: JudgeReport) -> str:
    """Return the report as a page of its own, without scripts."""
    parts = [f"<h1>The judge {escape(report.judge)}</h1>"]
    parts.append(f"<p>{escape(report.model)} on {escape(report.engine)}, read by {escape(report.read)}.</p>")
    parts += [f"<p>{escape(note)}</p>" for note in report.notes]
    for title, found in (("Pairs", report.pairs), ("Scores", report.ratings)):
        parts.append(f"<h2>{title}: beside people</h2><p><strong>{escape(found.sentence)}</strong></p>")
        parts += [f"<p>{escape(note)}</p>" for note in (*found.notes, *_unread(found))]
        rows = figure_rows(found)
        if rows:
            parts.append(_html_table(["", "value", "95 % interval"], rows))
            parts.append(figures_plot(found))
        if found.confusion:
            parts.append(_html_table(*_confusion(found)))
        if found.bins:
            parts.append(bins_plot(found))
    for header, lines in _result_tables(report):
        parts.append(_html_table(header, lines))
    body = "".join(parts)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Judge</title><style>{STYLE}</style></head>'
        f"<body>{body}</body></html>\n"
    )


def figure_rows(found: Calibration) -> list[list[str]]:
    """Return name, value and interval of each figure of a calibration."""
    rows = []
    for name, label in FIGURES:
        score: Score | None = getattr(found, name)
        if score is not None:
            rows.append([label, f"{score.value:.3f}", f"{score.interval.low:.3f} to {score.interval.high:.3f}"])
    if found.mass is not None:
        rows.append(["probability that the options have together (median)", f"{found.mass:.3f}", ""])
    return rows


def figures_plot(found: Calibration) -> str:
    """Return agreement, kappa and AUC with their intervals, and where chance is."""
    drawn = [
        (label, score, chance)
        for label, score, chance in (
            ("agreement", found.agreement, 0.5 if found.kind == "pairs" else None),
            ("kappa", found.kappa, 0.0),
            ("AUC", found.auc, 0.5),
        )
        if score is not None
    ]
    height = 40 * len(drawn) + 40
    low = min(-0.2, *(score.interval.low for _, score, _ in drawn))

    def x(value: float) -> float:
        return 110 + (value - low) / (1 - low) * (_WIDTH - 130)

    marks = []
    for line, (label, score, chance) in enumerate(drawn):
        y = 25 + 40 * line
        marks.append(_words(10, y + 4, label))
        marks.append(_line(x(score.interval.low), y, x(score.interval.high), y, ACCENT, 3))
        marks.append(f'<circle cx="{x(score.value):.1f}" cy="{y}" r="5" fill="{ACCENT}"/>')
        if chance is not None:
            marks.append(_line(x(chance), y - 12, x(chance), y + 12, INK, 1))
    ticks = [_words(x(tick) - 8, height - 8, f"{tick:g}") for tick in (0, 0.25, 0.5, 0.75, 1)]
    return _svg(height, "Figures with their intervals; the upright lines are chance", [*marks, *ticks])


def bins_plot(found: Calibration) -> str:
    """Return the share of answers that people found good by the judge's score, with intervals."""

    def x(score: float) -> float:
        return _LEFT + (score - 1) / 4 * (_WIDTH - _LEFT - 20)

    def y(share: float) -> float:
        return 15 + (1 - share) * (_HEIGHT - _BOTTOM - 15)

    marks = [_line(_LEFT, y(0), _WIDTH - 20, y(0), FAINT, 1), _line(_LEFT, y(0), _LEFT, y(1), FAINT, 1)]
    points = [(x(each.score), each.good) for each in found.bins]
    marks += [_line(x1, y(one.value), x2, y(two.value), FAINT, 1) for (x1, one), (x2, two) in pairwise(points)]
    for place, good in points:
        marks.append(_line(place, y(good.interval.low), place, y(good.interval.high), ACCENT, 2))
        marks.append(f'<circle cx="{place:.1f}" cy="{y(good.value):.1f}" r="5" fill="{ACCENT}"/>')
    marks += [_words(x(score) - 4, _HEIGHT - 22, str(score)) for score in range(1, 6)]
    marks += [_words(12, y(share) + 4, f"{share:.0%}") for share in (0, 0.5, 1)]
    marks.append(_words(_WIDTH / 2 - 50, _HEIGHT - 4, "score of the judge"))
    return _svg(_HEIGHT, "Share that people found good, by the judge's score", marks)


def _results(report: JudgeReport) -> list[str]:
    parts = []
    for header, lines in _result_tables(report):
        parts += ["## Results", _table(header, lines)]
    return parts


def _result_tables(report: JudgeReport) -> list[tuple[list[str], list[list[str]]]]:
    tables = []
    if report.win_rates:
        header = ["candidate", "against", "win rate", "interval", "won, tied, lost", "p", "outcome", "unreadable"]
        lines = [
            [
                rate.candidate,
                rate.baseline,
                f"{rate.rate.value:.3f}",
                f"{rate.rate.interval.low:.3f} to {rate.rate.interval.high:.3f}",
                f"{rate.wins}, {rate.ties}, {rate.losses}",
                f"{rate.p_adjusted:.4f}",
                rate.outcome,
                str(rate.unreadable),
            ]
            for rate in report.win_rates
        ]
        tables.append((header, lines))
    for each in report.scored:
        header = [each.candidate, "score of 5", "interval", "beside the baseline", "p", "outcome"]
        by_name = {found.metric: found for found in each.comparisons}
        lines = []
        for score in each.scores:
            found = by_name[score.metric]
            interval = f"{score.interval.low:.2f} to {score.interval.high:.2f}"
            beside = f"{found.difference:+.2f} [{found.interval.low:+.2f}, {found.interval.high:+.2f}]"
            lines.append(
                [score.metric, f"{score.value:.2f}", interval, beside, f"{found.p_adjusted:.4f}", found.outcome]
            )
        tables.append((header, lines))
    return tables


def _confusion(found: Calibration) -> tuple[list[str], list[list[str]]]:
    header = ["people say \\ judge says", *found.labels]
    return header, [[label, *map(str, row)] for label, row in zip(found.labels, found.confusion, strict=True)]


def _unread(found: Calibration) -> list[str]:
    if not found.unreadable:
        return []
    shown = "; ".join(f"“{_cell(text)[:80]}”" for text in found.said)
    return [f"{found.unreadable:,} verdicts could not be read and count nowhere, such as {shown}."]


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"


def _svg(height: float, title: str, marks: Sequence[str]) -> str:
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg role="img" aria-label="{escape(title)}" '
        f'width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}">{"".join(marks)}</svg></figure>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, color: str, width: int) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{color}" stroke-width="{width}"/>'


def _words(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" font-size="12" fill="{INK}">{escape(text)}</text>'


def _cell(text: str) -> str:
    short = " ".join(str(text).split())
    for char, safe in (("\\", "\\\\"), ("|", "\\|"), ("<", "&lt;"), ("`", "\\`")):
        short = short.replace(char, safe)
    return short
