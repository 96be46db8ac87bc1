"""`vivace evaluate general` and `vivace evaluate task`: what was forgotten, and how others can check us."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vivace.cli.options import HERE, Changes, Json, ProjectDir, Quiet

if TYPE_CHECKING:
    from vivace.loop.evaluate.general import General

Out = Annotated[Path, typer.Option("--out", help="Folder that the task is written into.")]


def general(project: ProjectDir = HERE, change: Changes = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Tell what tuning and exporting made the model forget: general questions, and tasks of lm-eval."""
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.evaluate.general import evaluate_general

    found = evaluate_general(project, TerminalProgress(quiet), changes=change or [])
    if as_json:
        print_json(found)
    else:
        print_general(found)


def print_general(found: "General") -> None:
    """Print each model's changes against the base, what they mean, and what was not measured."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from vivace.cli.screen import out

    table = Table(
        title=f"Besides the domain, against {escape(found.base)}", title_justify="left", title_style="bold",
        box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("model", overflow="fold", min_width=8)
    table.add_column("task, metric", overflow="fold", min_width=16)
    for label in ("before", "after", "change", "p", ""):
        table.add_column(label, justify="right", no_wrap=True)
    marks = {"forgot": "[red]▼[/red]", "gained": "[green]▲[/green]", "noise": "≈"}
    for each in found.changes:
        if ":" in each.task and each.outcome == "noise":
            continue
        interval = f"[{each.interval.low:+.3f}, {each.interval.high:+.3f}]"
        table.add_row(
            escape(each.model),
            escape(f"{each.task}, {each.metric}"),
            f"{each.before:.3f}",
            f"{each.after:.3f}",
            escape(f"{each.difference:+.3f} {interval}"),
            f"{each.p_adjusted:.3f}",
            marks[each.outcome],
        )
    out.print(table)
    for line in found.sentences:
        out.print(escape(line))
    for name, requirements in found.reasons.items():
        for reason in requirements:
            if not reason.met:
                out.print(f"[red]✗ {escape(name)}: {escape(reason.requirement)}[/red] ({escape(reason.detail)})")
    for what, why in found.missing.items():
        out.print(escape(f"Not measured: {what}. {why}"))
    out.print(f"All figures: {found.report}")


def task(
    project: ProjectDir = HERE,
    out: Out = Path("lm-eval-task"),
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write the test set and its metrics as a task that lm-evaluation-harness runs with any model."""
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.cli.screen import out as screen
    from vivace.loop.evaluate.lm_eval_task import export_project_task

    files = export_project_task(project, out, TerminalProgress(quiet), changes=change or [])
    if as_json:
        print_json([str(path) for path in files])
        return
    name = files[-1].stem
    for path in files:
        screen.print(str(path))
    screen.print(
        f"lm_eval --model hf --model_args pretrained=FOLDER --apply_chat_template --include_path {out} --tasks {name}"
    )
