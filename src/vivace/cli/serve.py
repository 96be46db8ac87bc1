"""`vivace serve`: a release over HTTP."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def serve(
    project: Annotated[Path, typer.Argument(help="Folder of the project, or of a release.")] = Path(),
    release: Annotated[str, typer.Option(help="First digits of the release's id; empty: the newest.")] = "",
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = None,
) -> None:
    """Serve a release over OpenAI's HTTP API: /v1/chat/completions, /v1/models, /health."""
    from vivace.cli.screen import TerminalProgress, errors
    from vivace.loop.serving import serve_release

    serve_release(project, release, host=host, port=port, progress=TerminalProgress(), say=errors.print)
