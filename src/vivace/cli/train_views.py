"""How training runs and searches are printed."""

from pathlib import Path
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from vivace.cli.results import print_facts
from vivace.cli.screen import TerminalProgress, out, print_json
from vivace.domain import Artifact
from vivace.errors import ConfigError


def print_estimate(project: Path, changes: list[str], origin: str, *, as_json: bool, quiet: bool) -> None:
    """Print what training would take."""
    from vivace.loop.estimating import estimate_training

    if origin:
        raise ConfigError(
            "--estimate tells what training on the whole dataset takes, not an update with --from.", "Leave one out."
        )
    told = estimate_training(project, TerminalProgress(quiet), changes=changes)
    if as_json:
        print_json(told)
    else:
        out.print(escape(told["sentence"]))


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
    facts = dict(run.facts)
    forgetting = facts.pop("forgetting", None)
    print_facts(f"Run {run.short_id}", facts)
    if forgetting:
        out.print("[bold]Forgetting[/bold]")
        out.print(f"  {escape(forgetting['sentence'])}")
    out.print("[bold]Settings[/bold]")
    for name, value in origin.settings.items():
        if not isinstance(value, dict):
            out.print(f"  {name}: {escape(str(value))}")
    for name, value in origin.settings.get("distill", {}).items():
        out.print(f"  distill.{name}: {escape(str(value))}")
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


def print_against(found: dict[str, Any]) -> None:
    """Print two settings side by side, the difference, and whether it is shown."""
    table = _table(f"Held-out validation conversations: {found['examples']:,}", "")
    for name in ("loss", "token accuracy", "tokens", "s", "runs"):
        table.add_column(name, justify="left" if name == "runs" else "right", no_wrap=True)
    told = ", ".join(f"{name} = {_number(after)}" for name, (_before, after) in found["changed"].items())
    for side, name in enumerate(("the project's settings", told)):
        taken = found["sides"][side]
        table.add_row(
            name,
            f"{found['loss'][side]:.3f}",
            f"{found['token_accuracy'][side]:.1%}",
            f"{sum(taken['tokens']):,}",
            f"{sum(taken['seconds']):,.0f}",
            " ".join(run[:12] for run in taken["runs"]),
        )
    out.print(table)
    out.print(f"Lower loss by {found['gain']:+.3f} {escape(_interval(found))} nats per token (95 %)")
    if found["seeds"] > 1:
        out.print(f"  by seed: {', '.join(f'{gain:+.3f}' for gain in found['gains'])}")
    out.print(escape(found["sentence"]))


def _interval(found: dict[str, Any]) -> str:
    return f"[{found['low']:+.3f}, {found['high']:+.3f}]"


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
