"""The `vivace` command: which subcommands there are, and how failures are told."""

import os
import sys
import tempfile
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from vivace.cli.interrupts import hear_every_interrupt
from vivace.errors import ConfigError, VivaceError

# name → one line of help; the module is `vivace.cli.<name>`, imported when the command is used.
COMMANDS = {
    "init": "Write a vivace.toml for your own files.",
    "run": "Run the whole loop: data, train, compress, evaluate, bench, release.",
    "demo": "Run the loop on the example shop's support conversations.",
    "data": "Read, clean and split the conversations.",
    "train": "Tune the base model on the dataset.",
    "compress": "Prune, trim and quantize the tuned model, or find the plan that meets a goal.",
    "evaluate": "Score every candidate on the held-out examples.",
    "parity": "Prove that the model that is served is the model that was trained.",
    "bench": "Measure the speed of every candidate, or of a server.",
    "release": "List and show releases.",
    "serve": "Serve a release over OpenAI's HTTP API.",
    "chat": "Chat with a release in the terminal.",
    "engines": "List, check, start and tune what answers.",
    "models": "List, fetch and describe base models.",
    "doctor": "Say what this machine has and can do.",
}


class LazyGroup(TyperGroup):
    """A group that imports a command's module only when that command is used."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the commands in the order of the loop."""
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the command, or stand in for it while only help is asked."""
        if cmd_name not in COMMANDS:
            return None
        if ctx.resilient_parsing or ctx.info_name is None or _listing():
            return TyperCommand(cmd_name, help=COMMANDS[cmd_name], short_help=COMMANDS[cmd_name])
        module = import_module(f"vivace.cli.{cmd_name}")
        return typer.main.get_command(module.app)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Name the nearest command when there is none of that name."""
        if args and not args[0].startswith("-") and args[0] not in COMMANDS:
            from vivace.registry import nearest

            raise ConfigError(f"There is no command {args[0]!r}.", nearest(args[0], list(COMMANDS)))
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **extra: Any) -> Any:
        """Read the command line; libraries are imported for it, so Ctrl-C may come here, too."""
        with _saying_how_to_go_on():
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; Ctrl-C says how to go on."""
        with _saying_how_to_go_on():
            return super().invoke(ctx)


@contextmanager
def _saying_how_to_go_on() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        typer.echo("\nInterrupted. Run the same command again: it continues where it stopped.", err=True)
        raise typer.Exit(130) from None


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="From a team's conversations to the fastest chatbot that is still right, and keeps it right.",
)


@app.callback(invoke_without_command=True)
def _top(version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if version:
        from vivace import __version__

        typer.echo(f"vivace {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; every failure a user can cause is one sentence and an exit code."""
    hear_every_interrupt()
    try:
        app(standalone_mode=True)
    except VivaceError as error:
        _tell(error)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(141)
    except Exception as error:
        if os.environ.get("VIVACE_DEBUG"):
            raise
        typer.secho(f"Unexpected error: {type(error).__name__}: {error}", fg="red", err=True)
        typer.echo(f"This is a fault in Vivace, not in your files. Details: {_keep_details()}", err=True)
        sys.exit(70)


def _tell(error: VivaceError) -> None:
    typer.secho(f"Error: {error.message}", fg="red", err=True)
    if error.hint:
        typer.echo(error.hint, err=True)


def _keep_details() -> Path:
    """Write the traceback to a file of its own and return its path."""
    with tempfile.NamedTemporaryFile("w", prefix="vivace-fault-", suffix=".txt", delete=False) as file:
        traceback.print_exc(file=file)
    return Path(file.name)


def _listing() -> bool:
    """Return whether the whole command line only asks for the list of commands."""
    words = [word for word in sys.argv[1:] if not word.startswith("-")]
    return not words or words[0] not in COMMANDS
