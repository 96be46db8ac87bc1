"""The report: one self-contained page that tells what the run came to, for people who were not there."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from vivace.domain import Artifact, Scorecard, Speed, Workspace
from vivace.evaluate.ethics.report import TITLES, moved, summary, told
from vivace.loop import pages
from vivace.loop.project import Project
from vivace.loop.speed import read_speeds
from vivace.parity import section
from vivace.release import find_score
from vivace.store.files import write_atomic

if TYPE_CHECKING:
    from vivace.loop.run import Result

NAME = "report.html"
REVISION = 2
MARKS = {"better": ("▲", "good"), "worse": ("▼", "bad"), "noise": ("≈", "")}
METRICS = (
    ("token_f1", "Token F1", "share of words in common with the team's own answer"),
    ("rouge_l", "ROUGE-L", "longest common thread of words with the team's own answer"),
    ("bleu", "BLEU", "matching phrases of up to four words, 0 to 100"),
    ("chrf", "chrF", "matching pieces of words, 0 to 100"),
    ("exact_match", "Exact match", "answers that are word for word the team's"),
    ("perplexity", "Perplexity", "how surprised the model is by the team's answers: lower is better"),
)

FURTHER = (
    ("label_accuracy", "Label accuracy", "answers that name the right label"),
    ("json_validity", "JSON", "answers that are valid JSON where the team's is"),
    ("tool_call_accuracy", "Tool calls", "calls with the right name and arguments"),
    ("embedding_similarity", "Similarity", "closeness in meaning to the team's own answer"),
)
"""Metrics that are told where the test examples give them something to say, before those that the project brought."""


def further_metrics(cards: Sequence[Scorecard]) -> list[tuple[str, str, str]]:
    """Return name, label and meaning of what was measured beside `METRICS`, the project's own metrics last."""
    from vivace.evaluate import METRICS as KNOWN

    found = list(dict.fromkeys(score.metric for card in cards for score in card.scores))
    brought = [(name, name.replace("_", " "), "a metric of your own") for name in found if name not in KNOWN.names()]
    return [each for each in FURTHER if each[0] in found] + brought


def write_report(project: Project, result: "Result") -> Path:
    """Write `report.html` beside vivace.toml from a run's artifacts and return its path."""
    parents = {item.candidate.name: item.candidate.model.artifact_id for item in result.scorecards}
    for name, artifact in (("dataset", result.dataset), ("trained", result.trained), ("bench", result.bench)):
        if artifact is not None:
            parents[name] = artifact.id
    cards = msgspec.to_builtins(result.scorecards, enc_hook=str)

    def work(workspace: Workspace) -> dict[str, Any]:
        with project.progress.task("Writing the report"):
            page = render(project, result)
            write_atomic(workspace.out / NAME, page)
        return {}

    outcome = project.store.run(
        "report",
        work,
        kind="report",
        settings={"cards": cards, "refusal": result.refusal, "release": result.release.id if result.release else ""},
        parents=parents,
        progress=project.progress,
        revision=REVISION,
    )
    made = outcome.artifact.path / NAME
    target = project.root / NAME
    if not target.exists() or target.stat().st_size != made.stat().st_size or target.read_bytes() != made.read_bytes():
        write_atomic(target, made.read_bytes())
    return target


def render(project: Project, result: "Result") -> str:
    """Return the page; every figure in it comes from the artifacts."""
    from vivace.loop import plots

    speeds = read_speeds(result.bench) if result.bench else {}
    roles = {card.candidate.name: card.candidate.role for card in result.scorecards}
    metric = project.objective.quality_metric
    metrics = (*METRICS, *further_metrics(result.scorecards))
    figures = {
        "loss": plots.training(_rows(result.trained, "history.jsonl")),
        "quality": plots.quality(result.scorecards),
        "latency": plots.latency(speeds),
        "frontier": plots.frontier(result.scorecards, metric),
    }
    bench = result.bench.facts if result.bench else {}
    return pages.render(
        "report.html.jinja",
        figures,
        name=project.settings.project.name,
        tiles=_tiles(result, metric),
        cards=[_quality_row(card, metrics) for card in result.scorecards],
        speeds=[_speed_row(name, speed, roles.get(name, "baseline")) for name, speed in speeds.items()],
        ratios=_ratios(result.bench),
        noise=bench.get("noise", ""),
        concurrency=project.settings.bench.concurrency,
        metrics=metrics,
        ethics=_ethics(result),
        parity=section(list(result.parity.values())),
        verdicts=result.verdicts,
        refusal=result.refusal,
        release=result.release,
        training_text=_training_text(result.trained),
        data_text=_data_text(result.dataset),
        dropped=_dropped(result.dataset),
        examples=_examples(result),
        environment=result.bench.origin.environment if result.bench else {},
        made=result.bench.origin.created_at[:16].replace("T", " ") if result.bench else "",
    )


def _tiles(result: "Result", metric: str) -> list[dict[str, str]]:
    """Return the few figures a manager looks at first: those of the release, or of the best candidate."""
    chosen = released_card(result)
    base = next((card for card in result.scorecards if card.candidate.role == "baseline"), None)
    if chosen is None or base is None:
        return []
    tiles: list[dict[str, str]] = []
    for name, label in ((metric, metric.replace("_", " ")), ("rouge_l", "ROUGE-L")):
        ours, theirs = find_score(chosen, name), find_score(base, name)
        if ours and theirs and theirs.value and (name != metric or not tiles):
            tiles.append(
                {
                    "value": f"{ours.value / theirs.value:.1f}x",
                    "text": f"the base's {label} ({theirs.value:.3f} → {ours.value:.3f})",
                }
            )
    for ratio in _ratios(result.bench):
        if ratio["candidate"] == chosen.candidate.name and not any("faster" in tile["text"] for tile in tiles):
            tiles.append({"value": ratio["value"], "text": "faster end to end than the base in transformers"})
    tiles.append(
        {"value": f"{chosen.size_bytes / 1e6:,.0f} MB", "text": f"on disk, {chosen.candidate.model.weights} weights"}
    )
    if chosen.speed:
        tiles.append({"value": f"{chosen.speed.output_tokens_per_s:,.0f}", "text": "tokens a second on this machine"})
    return tiles


def released_card(result: "Result") -> Scorecard | None:
    """Return the scorecard of the release, or of the best candidate where none was released."""
    if result.release is not None:
        name = result.release.facts["candidate"]
        return next((card for card in result.scorecards if card.candidate.name == name), None)
    cards = [card for card in result.scorecards if card.candidate.role != "baseline"]
    return max(cards, key=lambda card: score.value if (score := find_score(card, "token_f1")) else 0.0, default=None)


def _quality_row(card: Scorecard, metrics: Sequence[tuple[str, str, str]]) -> dict[str, Any]:
    compared = {found.metric: found for found in card.comparisons}
    cells = []
    for metric, _label, _meaning in metrics:
        score = find_score(card, metric)
        if score is None:
            cells.append({"value": "–", "interval": "", "mark": "", "tone": "", "why": ""})
            continue
        found = compared.get(metric)
        mark, tone = MARKS[found.outcome] if found else ("", "")
        why = f"{found.difference:+.3f} against the base, p = {found.p_adjusted:.4f}" if found else ""
        digits = 3 if score.value < 2 else 1
        interval = f"{score.interval.low:.{digits}f} – {score.interval.high:.{digits}f}"
        cells.append(
            {"value": f"{score.value:.{digits}f}", "interval": interval, "mark": mark, "tone": tone, "why": why}
        )
    return {"name": card.candidate.name, "role": card.candidate.role, "quality": cells}


def _speed_row(name: str, speed: Speed, role: str) -> dict[str, Any]:
    pairs = [f"{item.p50_ms.value:,.0f} / {item.p95_ms.value:,.0f}" for item in (speed.ttft, speed.tpot, speed.e2e)]
    rest = [f"{speed.output_tokens_per_s:,.0f}", f"{speed.peak_memory_bytes / 1e6:,.0f}", f"{speed.load_s:.1f}"]
    return {"name": name, "role": role, "cells": pairs + rest}


def _ratios(bench: Artifact | None) -> list[dict[str, str]]:
    """Return how many times faster each candidate is than the baseline, end to end, in words."""
    found = []
    for ratio in bench.facts.get("ratios", []) if bench else []:
        if ratio["metric"] != "e2e_p50_ms":
            continue
        work = "as users meet it" if ratio["workload"] == "natural" else "for the same number of tokens"
        text = f"{ratio['ratio']:.1f}x [{ratio['low']:.1f}, {ratio['high']:.1f}] {work}"
        found.append({"candidate": ratio["candidate"], "value": f"{ratio['ratio']:.1f}x", "text": text})
    return found


def _training_text(trained: Artifact | None) -> str:
    if trained is None:
        return ""
    facts = trained.facts
    told = [
        f"{facts['tokens']:,} training tokens in {facts['steps']:,} steps, {trained.origin.seconds / 60:.1f} minutes"
    ]
    if facts.get("validation_loss_before") is not None and facts.get("best_validation_loss") is not None:
        told.append(f"validation loss {facts['validation_loss_before']:.2f} → {facts['best_validation_loss']:.2f}")
    return "; ".join(told) + "."


def _data_text(dataset: Artifact | None) -> str:
    if dataset is None:
        return ""
    counts = {name: dataset.facts.get(name, 0) for name in ("train", "validation", "test")}
    told = ", ".join(f"{count:,} for {name}" for name, count in counts.items())
    return f"Conversations kept: {told}. Personal data was replaced by placeholders."


def _dropped(dataset: Artifact | None) -> list[tuple[str, int]]:
    if dataset is None:
        return []
    report = json.loads((dataset.path / "report.json").read_bytes())
    rows = list(report["dropped_by_reason"].items())
    rows.append(("lines that could not be read", report["rejected"]))
    return sorted(rows, key=lambda item: -item[1])


def _examples(result: "Result") -> list[dict[str, str]]:
    """Return the three best and the three worst answers of the release, beside the base's and the team's."""
    chosen = released_card(result)
    base = next((card for card in result.scorecards if card.candidate.role == "baseline"), None)
    if chosen is None or base is None:
        return []
    before = {row["id"]: row for row in _rows(result.reports[base.candidate.name], "answers.jsonl")}
    rows = _rows(result.reports[chosen.candidate.name], "answers.jsonl")
    ranked = sorted(rows, key=lambda row: (-float(row["scores"]["token_f1"]), str(row["id"])))
    shown = ranked if len(ranked) <= 6 else [*ranked[:3], *ranked[-3:]]
    return [
        {
            "question": next((turn["content"] for turn in reversed(row["prompt"]) if turn["role"] == "user"), ""),
            "reference": row["reference"],
            "base": before[row["id"]]["answer"],
            "tuned": row["answer"],
            "score": f"{row['scores']['token_f1']:.2f}",
        }
        for row in shown
        if row["id"] in before
    ]


def _ethics(result: "Result") -> dict[str, Any] | None:
    """Return what was probed of the release, or of the best candidate, without each swap of groups."""
    chosen = released_card(result)
    found = result.ethics.get(chosen.candidate.name) if chosen else None
    if found is None:
        return None
    rows = [
        (
            TITLES[each.part].split(" (")[0],
            f"{each.metric} {each.group}".strip(),
            told(each.candidate),
            told(each.base) if each.base else "–",
            moved(each.change),
        )
        for each in found.findings
        if each.part != "swaps"
    ]
    return {"candidate": found.candidate, "sentences": summary(found), "rows": rows}


def _rows(artifact: Artifact | None, name: str) -> list[dict[str, Any]]:
    if artifact is None or not (artifact.path / name).is_file():
        return []
    return [json.loads(line) for line in (artifact.path / name).read_bytes().splitlines()]
