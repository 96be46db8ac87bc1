"""`vivace chat`: talk to a release in the terminal."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(add_completion=False)


@app.command()
def chat(
    project: Annotated[Path, typer.Argument(help="Folder of the project, or of a release.")] = Path(),
    release: Annotated[str, typer.Option(help="First digits of the release's id; empty: the newest.")] = "",
    message: Annotated[str, typer.Option("--message", "-m", help="Ask this one question and leave.")] = "",
    max_tokens: Annotated[int, typer.Option(min=1, help="Longest answer in tokens.")] = 256,
) -> None:
    """Chat with a release. /new begins anew, /quit leaves, Ctrl-C stops an answer."""
    import asyncio

    from vivace.cli.screen import TerminalProgress, out
    from vivace.loop.chatting import chat_with

    def write(text: str) -> None:
        out.file.write(text)
        out.file.flush()

    asyncio.run(chat_with(project, release, message, max_tokens, write=write, progress=TerminalProgress()))
