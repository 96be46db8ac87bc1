"""How the classifier of intents and the reward model are printed."""

from typing import Any

from rich import box
from rich.table import Table

from vivace.cli.screen import out


def print_intents(told: dict[str, Any]) -> None:
    """Print what the classifier is worth: beside simple ones, when it abstains, what it takes for what."""
    test = told["test"]
    if test is None:
        out.print("No test message has one of the intents: nothing was measured.")
    else:
        table = _table(f"Intents on {test['messages']:,} test messages in scope, 95 % intervals", "classifier")
        for name in ("accuracy", "macro F1", "out of scope (AUC)"):
            table.add_column(name, justify="right", no_wrap=True)
        rows = {"fine-tuned encoder": test} | {k.replace("_", " "): v for k, v in told["baselines"].items()}
        for name, row in rows.items():
            auc = row.get("out_of_scope_auc")
            table.add_row(name, share(row["accuracy"]), share(row["macro_f1"]), "–" if auc is None else f"{auc:.3f}")
        out.print(table)
        found = told["threshold"]
        promise = "kept with 95 % confidence" if found["kept"] else "not to be promised"
        out.print(
            f"Threshold {found['value']:.3f} for a {found['for']} of {found['target']:.0%} on validation: {promise}."
        )
        out.print(f"  answered in scope: {share(test['coverage_in_scope'])}")
        out.print(f"  right among the answered: {share(test['precision'])}")
        if test["out_of_scope"]:
            out.print(
                f"  out of scope and not answered: {share(test['out_of_scope_recall'])} of {test['out_of_scope']:,}"
            )
        error = told["calibration_error"]
        heat = told["temperature"]
        out.print(f"  calibration error {error['before']:.3f}, with temperature {heat:.2f}: {error['after']:.3f}")
    out.print(f"  folder: {told['folder']}")


def print_reward(told: dict[str, Any]) -> None:
    """Print what the reward model is worth on held-out answers."""
    held = told["held_out"]
    counts = f"{held['pairs']:,} pairs and {held['ratings']:,} ratings"
    out.print(f"[bold]Reward model[/bold], measured on {counts} of the {told['measured_on']} split")
    for name, label in (
        ("accuracy", "pairs told right"),
        ("even_accuracy", "the same, longer and shorter liked answers counting alike"),
        ("shorter_liked_accuracy", "pairs whose worse answer is longer"),
        ("auc", "good against bad answers (AUC)"),
        ("even_auc", "the same, long and short answers good equally often"),
    ):
        if held.get(name) is not None:
            out.print(f"  {label}: {share(held[name])}")
    own, liked = held["length_correlation"], held["liked_length_correlation"]
    out.print(f"  correlation of score and length: {own:+.2f} (of being liked and length: {liked:+.2f})")
    out.print(f"  calibration error: {held['calibration_error']:.3f}")
    out.print(f"  folder: {told['folder']}")


def share(found: dict[str, float] | None) -> str:
    """Return a figure with its interval."""
    return "–" if found is None else f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]"


def _table(title: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, no_wrap=True)
    return table
