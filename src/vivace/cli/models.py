"""`vivace models`: base models."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vivace.cli.options import HERE, Changes, Json, Quiet

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, fetch and describe base models.")
Name = Annotated[str, typer.Argument(help="A known name, a Hugging Face name or a model folder.")]


class Goal(StrEnum):
    """What the comparison's recommendation looks at."""

    quality = "quality"
    speed = "speed"
    balance = "balance"


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List the models that are known by a short name."""
    from rich.table import Table

    from vivace.cli.screen import out, print_json
    from vivace.models import entries, is_cached

    if as_json:
        print_json(entries())
        return
    table = Table(title="Known models", title_justify="left")
    table.add_column("name", no_wrap=True)
    for label in ("parameters", "context", "licence", "cached"):
        table.add_column(label)
    for entry in entries():
        table.add_row(
            entry.name,
            f"{entry.parameters / 1e6:,.0f} M",
            f"{entry.context_length:,}",
            entry.license,
            "yes" if is_cached(entry) else "no",
        )
    out.print(table)


@app.command()
def pull(
    name: Name, revision: Annotated[str, typer.Option(help="Revision on the hub.")] = "main", as_json: Json = False
) -> None:
    """Fetch a model, verify it, convert it once, and keep it in the cache."""
    from vivace.cli.screen import TerminalProgress, out, print_json
    from vivace.models import resolve

    model = resolve(name, revision, progress=TerminalProgress())
    if as_json:
        print_json(model)
    else:
        out.print(f"{model.name} ({model.weights}, {model.license or 'licence unknown'}) is in {model.path}")


@app.command()
def show(name: Name, as_json: Json = False) -> None:
    """Describe a model: architecture, parameters, context, size, licence."""
    import msgspec

    from vivace.cli.results import print_facts
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.models import describe, resolve

    model = resolve(name, progress=TerminalProgress())
    told = describe(model.path)
    if as_json:
        print_json(told)
        return
    print_facts(model.name, msgspec.to_builtins(told, enc_hook=str))


@app.command()
def compare(
    names: Annotated[list[str], typer.Argument(help="Known names, Hugging Face names or model folders.")],
    project: Annotated[Path, typer.Option("--project", "-p", help="Folder of the project.")] = HERE,
    purpose: Annotated[Goal, typer.Option("--for", help="What the recommendation is to look at.")] = Goal.balance,
    examples: Annotated[int, typer.Option(min=2, help="At most so many validation conversations are asked.")] = 60,
    answers: Annotated[int, typer.Option(min=0, help="Also let each model answer so many, for token F1.")] = 0,
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare base models on your own validation conversations, and recommend one."""
    from vivace.cli.models_views import print_choice
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.choosing import compare_models, told

    found = compare_models(
        project,
        names,
        TerminalProgress(quiet),
        purpose=purpose.value,
        examples=examples,
        answers=answers,
        changes=change or (),
    )
    if as_json:
        print_json(told(found))
    else:
        print_choice(found)
