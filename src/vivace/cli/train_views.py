"""How training runs and searches are printed."""

from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from vivace.cli.results import print_facts
from vivace.cli.screen import out
from vivace.domain import Artifact


def print_runs(runs: list[Artifact]) -> None:
    """Print the training runs, one a line."""
    table = _table("Training runs (rate: learning rate, loss: best validation loss)", "run")
    for name in ("stage", "method", "rate", "tokens", "loss", "s", "made"):
        table.add_column(name, justify="left" if name in ("stage", "method", "made") else "right", no_wrap=True)
    for run in runs:
        facts = run.facts
        table.add_row(
            run.short_id,
            run.origin.stage,
            str(facts.get("method", "")),
            _number(facts.get("learning_rate")),
            _number(facts.get("tokens")),
            _number(facts.get("best_validation_loss")),
            f"{run.origin.seconds:,.0f}",
            run.origin.created_at[:16].replace("T", " "),
        )
    out.print(table if runs else "No training run yet: run `vivace train`.")


def print_run(run: Artifact) -> None:
    """Print everything that is known of a run."""
    origin = run.origin
    print_facts(f"Run {run.short_id}", run.facts)
    out.print("[bold]Settings[/bold]")
    for name, value in origin.settings.items():
        if not isinstance(value, dict):
            out.print(f"  {name}: {escape(str(value))}")
    out.print("[bold]Made[/bold]")
    out.print(f"  {origin.created_at[:16].replace('T', ' ')}, {origin.seconds:,.0f} s, Vivace {origin.code_version}")
    out.print(f"  {', '.join(f'{name} {value}' for name, value in origin.environment.items())}")
    out.print(f"  from: {', '.join(item[:12] for item in origin.parents)}")
    out.print(f"  files: {run.path}")


def print_comparison(found: dict[str, Any]) -> None:
    """Print runs side by side."""
    names = found["runs"]
    for title, rows in (
        ("Settings that differ", found["settings"]),
        ("Inputs that differ (dataset and base)", found["inputs"]),
        ("Surroundings that differ", found["environment"]),
        ("Ends of the curves", found["last"]),
        ("Figures", found["figures"]),
    ):
        if not rows:
            continue
        table = _table(title, "")
        for name in names:
            table.add_column(name, justify="right")
        for name, values in rows.items():
            table.add_row(name.replace("_", " "), *map(_number, values))
        out.print(table)
    if not found["settings"]:
        out.print("The runs have the same settings.")
    if found["inputs"]:
        out.print("Their data or base differ: the validation losses are not of the same examples.")


def print_rerun(done: dict[str, Any]) -> None:
    """Print whether a run was reproduced."""
    run, (before, after) = done["run"][:12], done["weights"]
    if done["weights_equal"]:
        out.print(f"Run {run} is reproduced: the weights are the same, bit by bit (sha256 {before[:16]}…).")
    else:
        out.print(f"Run {run} is not reproduced bit by bit: sha256 {before[:16]}… then, {after[:16]}… now.")
        first, second = map(_number, done["best_validation_loss"])
        out.print(f"  best validation loss {first} then, {second} now")
    for name, (then, now) in done["environment"].items():
        out.print(f"  {name}: {then} then, {now} now")


def print_search(found: dict[str, Any]) -> None:
    """Print the trials of a search, what mattered, and whether the winner beat the default settings."""
    table = _table(f"Trials ({found['method']}, {found['tokens_per_trial']:,} tokens each)", "trial")
    for name in (*found["space"], "validation loss"):
        table.add_column(name, justify="right")
    for trial in found["trials"]:
        state = "" if trial["state"] == "complete" else f" ({trial['state']})"
        loss = f"{_number(trial['validation_loss'])}{state}"
        table.add_row(str(trial["number"]), *(_number(trial["settings"][name]) for name in found["space"]), loss)
    out.print(table)
    if found["importances"]:
        told = ", ".join(f"{name} {share:.0%}" for name, share in found["importances"].items())
        out.print(f"What mattered (fANOVA): {told}")
    out.print(found["sentence"])
    if found["better"]:
        out.print("  to use them: write them into [train], or leave it to the search (method in [train.search])")
    out.print(f"  report: {found['report']}")


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table


def _number(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return escape(str(value))
    return f"{value:,}" if isinstance(value, int) else f"{value:,.4g}"
