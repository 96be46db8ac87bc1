"""`vivace evaluate scales`: the same work on several sizes of model, and which of them is enough."""

import json
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.options import HERE, Changes, Json, ProjectDir, Quiet

if TYPE_CHECKING:
    from rich.table import Table

    from vivace.domain import Score
    from vivace.loop.evaluate.scales import Scales

Models = Annotated[
    list[str] | None,
    typer.Option("--model", help="A model to compare, instead of those in [evaluate.scales]; may be repeated."),
]
Layers = Annotated[
    list[float] | None, typer.Option("--layers", help="A share of the tuned model's layers; may be repeated.")
]
Task = Annotated[str | None, typer.Option("--task", help="Judge by the questions of this intent alone.")]
Wanted = Annotated[float | None, typer.Option("--quality", help="Quality wanted, on the metric's scale.")]
Memory = Annotated[float | None, typer.Option("--max-memory-mb", help="Largest peak memory.")]
Disk = Annotated[float | None, typer.Option("--max-disk-mb", help="Largest model folder.")]
Latency = Annotated[float | None, typer.Option("--max-latency-ms", help="Longest median time for an answer.")]
Cost = Annotated[float | None, typer.Option("--max-cost", help="Highest cost of 1,000 answers.")]


def scales(
    project: ProjectDir = HERE,
    model: Models = None,
    layers: Layers = None,
    task: Task = None,
    quality: Wanted = None,
    max_memory_mb: Memory = None,
    max_disk_mb: Disk = None,
    max_latency_ms: Latency = None,
    max_cost: Cost = None,
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare sizes of model on the test questions: quality, latency, memory, cost, where more stops paying."""
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.evaluate.scales import compare_scales

    given = {
        "models": model, "layers": layers, "task": task, "quality": quality, "max_memory_mb": max_memory_mb,
        "max_disk_mb": max_disk_mb, "max_latency_ms": max_latency_ms, "max_cost": max_cost,
    }  # fmt: skip
    changes = [*(change or [])]
    changes += [f"evaluate.scales.{name}={json.dumps(value)}" for name, value in given.items() if value is not None]
    found = compare_scales(project, TerminalProgress(quiet), changes=changes)
    if as_json:
        print_json(found)
    else:
        print_scales(found)


def print_scales(found: "Scales") -> None:
    """Print the table of models, what the curves say, and the recommendation."""
    from rich.markup import escape

    from vivace.cli.screen import out
    from vivace.evaluate.scales.telling import size, tell

    task = f" of the intent {found.task}" if found.task else ""
    quality = _table(
        f"{found.questions} test questions{escape(task)}, ± half the interval",
        ("parameters", found.metric.replace("_", " "), "bits per byte", "MB on disk"),
    )
    speed = _table(
        "Side by side, caches off: ttft, tpot in ms, one at a time; tok/s with eight at once",
        ("ttft", "tpot", "tok/s", "s/answer", "MB of memory"),
    )
    for row in found.rows:
        times = row.times
        quality.add_row(
            escape(row.name),
            "–" if row.parameters is None else size(row.parameters),
            _scored(row.quality),
            "–" if row.bits is None else _scored(row.bits),
            f"{row.size_bytes / 1e6:,.0f}" if row.size_bytes else "–",
        )
        speed.add_row(
            escape(row.name),
            f"{times.ttft_ms.value:,.0f}",
            f"{times.tpot_ms.value:,.1f}",
            f"{times.tokens_per_s.value:,.0f}",
            f"{times.answer_s.value:,.2f}",
            f"{times.peak_memory_bytes / 1e6:,.0f}" if times.peak_memory_bytes else "–",
        )
    out.print(quality)
    out.print(speed)
    for row in found.rows:
        if row.cost is not None:
            out.print(escape(f"{row.name}: 1,000 answers cost {row.cost:,.4g}."))
    for name, reason in found.left_out.items():
        out.print(f"[yellow]{escape(name)} is left out:[/yellow] {escape(reason)}")
    for family, curve in found.curves:
        out.print(escape(f"{family}: {' '.join(tell(curve))}"))
    if found.advice is not None:
        word = {"yes": "Recommended", "no": "Best measured", "none fits": ""}[found.advice.carried]
        reasons = escape(" ".join(found.advice.reasons))
        if found.advice.choice:
            out.print(f"[bold]{word}: {escape(found.advice.choice)}.[/bold] {reasons}")
        else:
            out.print(f"[bold]No recommendation.[/bold] {reasons}")
    out.print(f"The whole report: {found.page}")


def _table(title: str, columns: tuple[str, ...]) -> "Table":
    from rich import box
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
        padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("model", overflow="fold", min_width=8)
    for label in columns:
        table.add_column(label, justify="right", no_wrap=True)
    return table


def _scored(score: "Score") -> str:
    return f"{score.value:.3f} ±{(score.interval.high - score.interval.low) / 2:.3f}"
