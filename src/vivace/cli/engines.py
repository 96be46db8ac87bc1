"""`vivace engines`: what can answer on this machine, and other people's servers on our releases."""

import signal
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from vivace.cli.engines_tune import decoding, tune
from vivace.cli.options import HERE, Json, Quiet

app = typer.Typer(add_completion=False, no_args_is_help=True, help="List, check, start and tune what answers.")
ProjectOption = Annotated[Path, typer.Option("--project", "-p", help="Folder of the project.")]
Target = Annotated[str, typer.Argument(help="First digits of a release's id, or a model folder; empty: the newest.")]
Weights = Annotated[str, typer.Option(help="An export of the release's model, such as compressed-w4a16 or gguf-q4_0.")]


class Container(StrEnum):
    """How the server is put into a container."""

    docker = "docker"
    podman = "podman"
    compose = "compose"


@app.command("list")
def list_(
    project: ProjectOption = HERE,
    check: Annotated[bool, typer.Option("--check", help="Let each engine that works answer one prompt.")] = False,
    ask_providers: Annotated[
        bool, typer.Option("--ask-providers", help="Also send each provider one question, which may cost money.")
    ] = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List engines, servers and providers: what works here, what is missing, what each can do."""
    from vivace.cli.engines_views import print_listing
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.loop.engines import list_engines

    found = list_engines(project, TerminalProgress(quiet), check=check, ask_providers=ask_providers)
    if as_json:
        print_json(found)
    else:
        print_listing(found)
    tried = [*(row.tried for row in found.engines), *(row.tried for row in found.providers)]
    if any(each is not None and each.error for each in tried):
        raise typer.Exit(1)


@app.command()
def start(
    server: Annotated[str, typer.Argument(help="vllm, tgi, llamacpp or vivace.")],
    release: Target = "",
    project: ProjectOption = HERE,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8001,
    name: Annotated[str, typer.Option(help="Name that clients ask for; empty: the project's.")] = "",
    weights: Weights = "",
    context: Annotated[
        int | None, typer.Option(min=16, help="Tokens of prompt and answer; empty: the model's.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="Arithmetic, such as bfloat16 or half; empty: the server's choice.")] = "",
    max_num_seqs: Annotated[int | None, typer.Option(min=1, help="Requests answered at once.")] = None,
    gpus: Annotated[int | None, typer.Option(min=1, help="GPUs that share the model.")] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(min=0.05, max=1.0, help="Share of each GPU's memory that it may take.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads on a processor.")] = None,
    key_env: Annotated[str, typer.Option(help="Environment variable that holds the key clients must send.")] = "",
    container: Annotated[Container | None, typer.Option(help="Run it in a container.")] = None,
    image: Annotated[str, typer.Option(help="Another image than the server's own.")] = "",
    show: Annotated[bool, typer.Option("--print", help="Only print the command and the provider's table.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", "-d", help="Let it go on; `vivace engines stop` ends it.")
    ] = False,
    ready_s: Annotated[float, typer.Option(min=1, help="Longest time until it is ready, in seconds.")] = 1800.0,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Start a server on a release, with flags that fit it, and say how a project asks it."""
    from vivace.cli.engines_views import print_ready, print_running
    from vivace.cli.screen import TerminalProgress, print_json
    from vivace.engines.launch import Wishes, free_port
    from vivace.loop.launching import Order, prepare, run_server, until_it_ends, watch

    port = port if show and port else free_port(host, port)
    wishes = Wishes(
        name, host, port, key_env.removeprefix("env:"), context, dtype, max_num_seqs, gpus, gpu_memory, threads
    )
    order = Order(server, release, project, weights, container.value if container else "", image, gpus, wishes)
    ready = prepare(order)
    if show:
        print_json(ready) if as_json else print_ready(ready)
        return
    progress = TerminalProgress(quiet)
    # A service manager ends us with SIGTERM: the server that we started must not stay.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    running = run_server(order, ready, progress, detach=detach, ready_s=ready_s)
    print_json({"running": running, "provider": ready.provider}) if as_json else print_running(running, ready, detach)
    if not detach:
        with until_it_ends(running, progress):
            watch(running, progress)


@app.command()
def stop(
    name: Annotated[str, typer.Argument(help="As `vivace engines list` shows it; empty: all.")] = "",
    as_json: Json = False,
) -> None:
    """Stop servers that were started with --detach."""
    from vivace.cli.screen import out, print_json
    from vivace.loop.launching import stop_server

    stopped = stop_server(name)
    if as_json:
        print_json(stopped)
        return
    for each in stopped:
        out.print(f"Stopped {each.server} on {each.name} ({each.url}).")
    if not stopped:
        out.print("No server runs that was started from here.")


@app.command()
def export(
    server: Annotated[str, typer.Argument(help="vllm or tgi.")],
    to: Annotated[Path, typer.Option(help="New folder.")],
    release: Target = "",
    project: ProjectOption = HERE,
    weights: Weights = "",
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Collect what a server reads of a release into one folder, and check that it would open."""
    from vivace.cli.screen import TerminalProgress, out, print_json
    from vivace.loop.launching import export_for

    with TerminalProgress(quiet).task("Copying and checking"):
        found, checked = export_for(server, project, release, to, weights)
    if as_json:
        print_json({"found": found, "checked": checked})
        return
    out.print(f"{checked.folder}: {checked.architecture}, {found.model.weights}, {checked.weights_bytes / 1e6:,.0f} MB")
    for line in checked.done:
        out.print(f"  [green]✓[/green] {line}")
    for line in checked.left_out:
        out.print(f"  [yellow]![/yellow] {line}")
    if found.told:
        out.print(found.told)


app.command()(tune)
app.command()(decoding)
