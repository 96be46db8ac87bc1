"""`vivace run`: the whole loop."""

import time

import typer

from vivace.cli.options import HERE, Changes, Json, Origin, ProjectDir, Quiet
from vivace.errors import ReleaseRefused

app = typer.Typer(add_completion=False)


@app.command()
def run(
    project: ProjectDir = HERE,
    origin: Origin = "",
    change: Changes = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Run the whole loop: data, train, compress, evaluate, bench, release; only what has changed runs again."""
    from vivace.cli.results import print_forgetting, print_ratios, print_result
    from vivace.cli.screen import TerminalProgress, out, print_json
    from vivace.loop.project import open_project
    from vivace.loop.run import run as run_loop

    started = time.monotonic()
    with open_project(project, TerminalProgress(quiet), changes=change or ()) as opened:
        result = run_loop(opened, origin=origin)
    if as_json:
        print_json(result)
    else:
        print_result(result)
        print_forgetting(result)
        if result.bench is not None:
            print_ratios(result.bench.facts["ratios"])
        seconds = time.monotonic() - started
        if result.worked:
            out.print(f"Done in {seconds:,.0f} s: {', '.join(result.worked)}.")
        else:
            out.print(f"Nothing to do: every stage is up to date ({seconds:.1f} s).")
        out.print(f"Report: {result.report}")
        if result.release is not None:
            out.print(f"Release [bold]{result.release.short_id}[/bold]. Serve it: vivace serve {project}")
    if result.refusal:
        raise ReleaseRefused(result.refusal)
