"""`vivace train`: the loop up to and including `train`."""

import typer

from vivace.cli.options import HERE, Changes, Json, ProjectDir, Quiet

app = typer.Typer(add_completion=False)


@app.command()
def train(project: ProjectDir = HERE, change: Changes = None, as_json: Json = False, quiet: Quiet = False) -> None:
    """Tune the base model on the dataset."""
    from vivace.cli.results import print_stage

    print_stage("train", project, change or [], as_json=as_json, quiet=quiet)
