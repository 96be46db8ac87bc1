"""`vivace demo`: the loop on the example shop."""

from pathlib import Path
from typing import Annotated

import typer

from vivace.cli.options import Changes, Json, Quiet

app = typer.Typer(add_completion=False)


@app.command()
def demo(
    folder: Annotated[Path, typer.Option(help="Where the demo project is put.")] = Path(".demo"),
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole loop on the example shop's support conversations: a real model, about ten minutes on two cores."""
    from vivace.cli.run import run
    from vivace.loop.demo import prepare_demo

    run(prepare_demo(folder), change=change, as_json=as_json, quiet=quiet)
