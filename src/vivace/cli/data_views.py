"""How datasets are printed: cleaning, composition, rows and their fates."""

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.markup import escape
from rich.table import Table

from vivace.cli.screen import out, print_json
from vivace.domain import Artifact

if TYPE_CHECKING:
    from vivace.data.card.diff import DatasetDiff
    from vivace.data.card.fate import Fate

MAX_VALUES = 8
SHOWN_CHARS = 700


def print_dataset(dataset: Artifact) -> None:
    """Print what a dataset is made of and what was done to it."""
    from vivace.data.card.folder import read_report

    report, facts = read_report(dataset.path), dataset.facts
    splits = ", ".join(f"{report['splits'][name]['examples']:,} {name}" for name in report["splits"])
    out.print(f"[bold]Dataset {dataset.short_id}[/bold]: {splits}")
    further = {"queries without an answer": "queries", "preferences": "preferences", "documents": "documents"}
    extra = [f"{facts[key]:,} {label}" for label, key in further.items() if facts.get(key)]
    if extra:
        out.print(f"  {', '.join(extra)}")
    _print_steps(report["steps"])
    _print_composition(report.get("composition", {}))
    leakage = report.get("leakage", {})
    if leakage.get("tested"):
        removed = sum(leakage["removed"].values())
        tested = _count(leakage["tested"], "test conversation")
        out.print(f"Leakage check: {tested}, {_count(removed, 'repeat')} removed, none left.")
    _print_curation(report.get("curation") or {})
    for warning in report.get("warnings", []):
        out.print(f"[yellow]![/yellow] {escape(warning)}")
    if report["rejected"]:
        out.print(f"{_count(report['rejected'], 'line')} could not be read: `vivace data rejects` shows them.")
    if report["dropped"]:
        gone = _count(report["dropped"], "conversation")
        out.print(f"Dropped: {gone}; `vivace data dropped` and `vivace data why ROW` tell why.")
    out.print(f"  card: {dataset.path / 'card.html'}", soft_wrap=True)


def _print_steps(steps: list[dict[str, Any]]) -> None:
    table = _table("What cleaning did", "step")
    for name in ("in", "out", "changed"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why rows left, and what was done", ratio=1)
    for step in steps:
        told = [f"[red]-{count:,}[/red] {escape(reason)}" for reason, count in step["dropped"].items()]
        told += [
            f"{count:,} {escape(what)}" for what, count in step["changes"].items() if not what.startswith("kept as")
        ]
        changed = f"{step['rows_changed']:,}" if step["rows_changed"] else "–"
        name = step["step"].replace("_", " ")
        table.add_row(name, f"{step['rows_in']:,}", f"{step['rows_out']:,}", changed, "\n".join(told[:6]))
    out.print(table)


def _print_composition(composition: dict[str, Any]) -> None:
    fields = composition.get("fields", {})
    if not fields:
        return
    table = _table("What it is made of", "field")
    table.add_column("conversations", ratio=1)
    for field, values in fields.items():
        shown = [f"{escape(value)} {item['share']:.0%}" for value, item in list(values.items())[:MAX_VALUES]]
        more = len(values) - MAX_VALUES
        table.add_row(field, ", ".join(shown) + (f" and {more} more" if more > 0 else ""))
    out.print(table)


def _print_curation(curation: dict[str, Any]) -> None:
    """Print what choosing the most useful conversations gave up, beside a choice by chance."""
    points = [point for point in curation.get("curve", []) if point["count"] <= curation["wanted"]][-1:]
    for point in points:
        told = [
            f"{name} {point[name]:.2f} (by chance {point[f'random_{name}']:.2f})" for name in ("coverage", "quality")
        ]
        out.print(f"Chosen: the {curation['wanted']:,} most useful of {curation['from']:,}: {', '.join(told)}.")


def print_samples(dataset: Path, count: int) -> None:
    """Print the first conversations to learn from."""
    from vivace.data.rows import render
    from vivace.store import read_examples

    for example in islice(read_examples(dataset / "examples.jsonl", "train"), count):
        out.print(f"[bold]{escape(example.id)}[/bold]")
        out.print(escape(render(example.messages, SHOWN_CHARS)) + "\n")


def print_synthetic(dataset: Path, count: int) -> None:
    """Print synthetic conversations beside what they were made from."""
    path = dataset / "augment.json"
    if not path.is_file():
        out.print("This dataset has no synthetic conversations: name [data.augment] methods.")
        return
    report = json.loads(path.read_bytes())
    table = _table("Synthetic conversations beside their origins", "method")
    table.add_column("before", ratio=1)
    table.add_column("after", ratio=1)
    for name, samples in report["samples"].items():
        for sample in samples[:count]:
            for change in sample["changes"]:
                table.add_row(name, escape(change["before"]), escape(change["after"]))
    out.print(table)


def print_rejects(dataset: Path, limit: int, *, as_json: bool) -> None:
    """Print lines that could not be read."""
    from vivace.data.card.folder import read_rejects

    found = list(read_rejects(dataset))
    if as_json:
        print_json(found[:limit])
        return
    if not found:
        out.print("Every line could be read.")
        return
    table = _table(f"{_count(len(found), 'line')} could not be read", "file and line")
    table.add_column("reason", ratio=1)
    table.add_column("line", ratio=2, no_wrap=True, overflow="ellipsis")
    for reject in found[:limit]:
        table.add_row(f"{reject.file}:{reject.line}", escape(reject.reason), escape(_one_line(reject.text)))
    out.print(table)


def print_dropped(dataset: Path, words: str, limit: int, *, as_json: bool) -> None:
    """Print dropped conversations whose step or reason has these words."""
    from vivace.data.card.folder import read_dropped
    from vivace.data.rows import render

    asked = words.casefold()
    matching = [row for row in read_dropped(dataset) if asked in f"{row.step}: {row.reason}".casefold()]
    if as_json:
        print_json(matching[:limit])
        return
    if not matching:
        out.print(f"No conversation was dropped for {words!r}." if words else "No conversation was dropped.")
        return
    table = _table(f"Dropped: {_count(len(matching), 'conversation')}", "row")
    table.add_column("step and reason", ratio=1)
    table.add_column("conversation", ratio=2, no_wrap=True, overflow="ellipsis")
    for row in matching[:limit]:
        why = f"{row.step}: {row.reason}" + (f" ({row.detail})" if row.detail else "")
        table.add_row(escape(row.id), escape(why), escape(_one_line(render(row.row.messages, 300))))
    out.print(table)


def print_fate(fate: "Fate") -> None:
    """Print what became of a row."""
    out.print(escape(fate.sentence))
    if fate.labels:
        out.print("  labels: " + escape(", ".join(f"{key} {value}" for key, value in fate.labels.items())))
    for change in fate.changes:
        out.print(f"  changed by {change.step}:")
        out.print(f"    before: {escape(_one_line(change.before))}")
        out.print(f"    after:  {escape(_one_line(change.after))}")
    if fate.text:
        out.print("\n" + escape(fate.text))
    for title, row in (("The one that stayed", fate.duplicate_of), ("Made from", fate.made_from)):
        if row is not None:
            out.print(f"\n[bold]{title}: {escape(row.id)}[/bold]\n{escape(row.text)}")
    for child in fate.children:
        out.print(f"\n[bold]Synthetic: {escape(child.id)}[/bold]\n{escape(child.text)}")


def print_suspects(dataset: Path, limit: int, *, as_json: bool) -> None:
    """Print labels that look wrong."""
    path = dataset / "suspects.jsonl"
    found = [json.loads(line) for line in path.read_bytes().splitlines()] if path.is_file() else []
    if as_json:
        print_json(found[:limit])
        return
    if not found:
        out.print('No label looks wrong, or none was checked: that needs "topic" in [data.label] fields.')
        return
    table = _table(f"{len(found):,} labels look wrong; `vivace data label ROW FIELD=VALUE` corrects one", "row")
    for name in ("field", "label", "looks like", "sure"):
        table.add_column(name)
    table.add_column("what the customer says", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in found[:limit]:
        cells = (row["id"], row["field"], row["label"], row["suggested"], f"{row['score']:.0%}", _one_line(row["text"]))
        table.add_row(*map(escape, cells))
    out.print(table)


def print_tokens(counted: dict[str, Any], trimmed: dict[str, Any]) -> None:
    """Print what tokenizers make of a dataset, side by side."""
    names = list(counted["tokenizers"])
    table = _table("Tokens", "")
    for name in names:
        table.add_column(name, justify="right")
    flat = {name: dict(_flat(counted["tokenizers"][name])) for name in names}
    for key in flat[names[0]]:
        table.add_row(key, *(_figure(flat[name].get(key)) for name in names))
    out.print(table)
    for name, found in trimmed.items():
        table = _table(f"{name}: what a smaller vocabulary covers", "tokens")
        for column in ("share of the dataset's tokens", "MB saved"):
            table.add_column(column, justify="right")
        for point in found["curve"]:
            saved = point["bytes_saved"] / 1e6
            table.add_row(f"{point['vocab_size']:,}", f"{point['share_of_occurrences']:.3%}", f"{saved:,.1f}")
        out.print(table)


def print_learned(learned: dict[str, Any], folder: Path) -> None:
    """Print how a tokenizer that was learned compares with the base's."""
    out.print(f"[bold]{learned['algorithm']}[/bold] of {learned['vocab_size']:,} tokens, in {folder}")
    for key, value in _flat(learned["held_out"]):
        out.print(f"  {key}: {_figure(value)}")


def print_diff(diff: "DatasetDiff") -> None:
    """Print what is different between two versions."""
    from vivace.data.card.diff_text import diff_tables

    out.print(f"{diff.rows[0]:,} conversations before, {diff.rows[1]:,} after")
    for warning in diff.warnings:
        out.print(f"[red]![/red] {escape(warning)}")
    for found in diff_tables(diff):
        table = _table(found.title, found.head[0])
        for name in found.head[1:]:
            table.add_column(name, justify="right")
        for row in found.rows:
            table.add_row(*map(escape, row))
        out.print(table)
    for kind, samples in diff.samples.items():
        for sample in samples[:2]:
            out.print(f"[bold]{escape(kind)}: {escape(sample.id)}[/bold] {escape(sample.note)}")
            for side, text in (("before", sample.before), ("after", sample.after)):
                if text:
                    out.print(f"  {side}: {escape(_one_line(text))}")


def _table(title: str, first: str) -> Table:
    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column(first)
    return table


def _flat(value: Any, prefix: str = "") -> list[tuple[str, Any]]:
    """Return the figures in nested tables by their path; lists are left out."""
    if not isinstance(value, dict):
        return [] if isinstance(value, list) else [(prefix, value)]
    found: list[tuple[str, Any]] = []
    for key, item in value.items():
        found += _flat(item, f"{prefix} {key}".strip().replace("_", " "))
    return found


def _figure(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return "–" if value is None else str(value).lower()
    if isinstance(value, float):
        return f"{value:,.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _one_line(text: str) -> str:
    return " ".join(text.split())[:SHOWN_CHARS]
