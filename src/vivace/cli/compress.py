"""`vivace compress`: the loop up to and including `compress`."""

import typer

from vivace.cli.options import HERE, Changes, Json, ProjectDir, Quiet

app = typer.Typer(add_completion=False)


@app.command()
def compress(project: ProjectDir = HERE, change: Changes = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Merge and quantize the tuned model for each engine."""
    from vivace.cli.results import print_stage

    print_stage("compress", project, change or [], as_json=as_json, quiet=quiet)
