"""Other people's servers on our releases: which weights they open, started and waited for, and how they are asked."""

import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Struct

from vivace.domain import Artifact, Model, Progress
from vivace.engines.launch import (
    SERVERS,
    Checked,
    Launch,
    Running,
    Wishes,
    collect,
    containerize,
    free_port,
    launch,
    plan,
)
from vivace.engines.launch.containers import Runtime, compose_file, container_name, runtimes, shell_line
from vivace.engines.launch.running import READY_S, last_words, remember, remembered, served_models, stop, wait_for_end
from vivace.errors import ConfigError, EngineError, ModelError, StoreError, VivaceError
from vivace.loop.project import Project, inline_toml, open_project
from vivace.loop.releases import find_release
from vivace.models import cache_root, identify
from vivace.registry import nearest
from vivace.release import open_release
from vivace.store.artifacts import MANIFEST
from vivace.store.files import write_atomic

HEALED = ("merge", "heal", "trim", "prune", "train", "distill", "align")


class Found(Struct, frozen=True):
    """The model that a server is given; `told` says where it comes from and what that means."""

    model: Model
    name: str
    release: str = ""
    told: str = ""


class Order(Struct, frozen=True):
    """What was asked for on the command line."""

    server: str
    target: str = ""
    start: Path = Path()
    weights: str = ""
    container: Runtime | Literal[""] = ""
    image: str = ""
    gpus: int | None = None
    wishes: Wishes = Wishes("")


class Ready(Struct, frozen=True):
    """A server that can be started: the command as a line for a shell, and what to paste into vivace.toml."""

    launch: Launch
    model: str
    line: str
    provider: str
    notes: tuple[str, ...] = ()
    compose: str = ""


def prepare(order: Order) -> Ready:
    """Return how the server is started, without starting anything."""
    if order.server not in SERVERS:
        raise ConfigError(f"There is no server {order.server!r}.", nearest(order.server, list(SERVERS)))
    if order.server == "vivace":
        return _own_server(order)
    found = servable(order.start, order.target, order.server, order.weights)
    wishes = msgspec.structs.replace(order.wishes, name=order.wishes.name or found.name, gpus=order.gpus)
    made = plan(order.server, found.model, wishes)
    compose, line = "", shell_line(made.command, made.environment)
    if order.container:
        file = servers_folder() / f"{container_name(made)}.yaml"
        if order.container == "compose":
            compose = compose_file(made, found.model.path, image=order.image, gpus=order.gpus)
        made = containerize(made, found.model.path, order.container, image=order.image, gpus=order.gpus, file=str(file))
        line = shell_line(made.command, {k: v for k, v in made.environment.items() if v.startswith("env:")})
    notes = tuple(filter(None, (found.told, *made.notes)))
    return Ready(made, str(found.model.path), line, provider_table(made), notes, compose)


def run_server(
    order: Order, ready: Ready, progress: Progress, *, detach: bool = False, ready_s: float = READY_S
) -> Running:
    """Start the server and wait until it answers; raises what kept it from that, with the last words of its log."""
    _check_program(order)
    folder = servers_folder()
    taken = {each.name: each for each in remembered(folder).values() if each.server == order.server}
    if ready.launch.name in taken:
        running = taken[ready.launch.name]
        raise EngineError(
            f"{order.server} serves {running.name} already, at {running.url}.",
            f"Stop it with: vivace engines stop {running.server}-{running.name}, or take another name with --name.",
        )
    free_port(order.wishes.host, order.wishes.port)
    if ready.compose:
        write_atomic(folder / f"{container_name(ready.launch)}.yaml", ready.compose)
    log = folder / f"{order.server}-{ready.launch.name}.log"
    with progress.task(f"Starting {order.server}") as bar:
        running = launch(ready.launch, log, bar, ready_s=ready_s, detach=detach)
    key = os.environ.get(ready.launch.key_env, "") if ready.launch.key_env else ""
    names = served_models(running.url, key)
    if names and ready.launch.name not in names and order.server != "tgi":  # TGI tells the folder, and takes any name
        stop(running)
        raise EngineError(
            f"{running.url} serves {', '.join(names[:3])}, not {ready.launch.name}: another server has the port."
        )
    remember(running, folder)
    return running


@contextmanager
def until_it_ends(running: Running, progress: Progress) -> Iterator[None]:
    """Stop the server at the end, and forget it."""
    try:
        yield
    finally:
        with progress.task(f"Stopping {running.server}"):
            stop(running)
        remembered(servers_folder())


def watch(running: Running, progress: Progress) -> None:
    """Wait until the server ends by itself, which is an error: `EngineError` with its last words."""
    began = time.monotonic()
    said = wait_for_end(
        running, on_sick=lambda: progress.say(f"{running.server} does not answer its health check any more.")
    )
    raise EngineError(
        f"{running.server} ended after {time.monotonic() - began:,.0f} s: {said}", f"Its whole log is {running.log}."
    )


def stop_server(name: str) -> list[Running]:
    """Stop the server called `name` (as `vivace engines list` shows it), or all for an empty name."""
    running = remembered(servers_folder())
    chosen = {path: each for path, each in running.items() if not name or path.stem == name}
    if name and not chosen:
        known = ", ".join(path.stem for path in running) or "none"
        raise StoreError(f"No server {name!r} was started from here and runs still.", f"Running: {known}.")
    for path, each in chosen.items():
        stop(each)
        path.unlink(missing_ok=True)
    return list(chosen.values())


def running_servers() -> dict[str, Running]:
    """Return the servers that were started from here and still run, by the name that stops them."""
    return {path.stem: each for path, each in remembered(servers_folder()).items()}


def export_for(server: str, start: Path, target: str, to: Path, weights: str = "") -> tuple[Found, Checked]:
    """Collect what vLLM or TGI reads of a release into a folder of its own, and check that it would open."""
    if server not in SERVERS or "hf" not in SERVERS[server].formats or server == "vivace":
        raise ConfigError(f"Nothing is exported for {server!r}.", "Folders are collected for vllm and tgi.")
    found = servable(start, target, server, weights)
    return found, collect(found.model.path, to)


def provider_table(made: Launch) -> str:
    """Return the table that makes the server a provider of a project."""
    name = re.sub(r"[^a-z0-9-]", "-", f"{made.name}-{made.server}".lower())[:63].strip("-")
    lines = [f"[models.providers.{name}]", f'base_url = "{made.url}/v1"', f"model = {inline_toml(made.name)}"]
    if made.key_env:
        lines.append(f'api_key = "env:{made.key_env}"')
    lines.append(f"context_length = {made.context_length}")
    if made.tokenizer:
        lines.append(f"tokenizer = {inline_toml(made.tokenizer)}")
        lines += ["likelihood = true"] if made.likelihood else []
    lines += ["ignore_eos = true"] if made.ignore_eos else []
    return "\n".join(lines)


def servable(start: Path, target: str, server: str, weights: str = "") -> Found:
    """Return the weights of a release, or of a model folder, that `server` opens.

    A release of another format is traced back to the model that it was exported from. Raises `ModelError` with what to
    do where nothing of its lineage fits.
    """
    formats = SERVERS[server].formats if server in SERVERS else frozenset()
    folder = Path(target) if target else None
    alone = folder is not None and folder.exists()
    if alone and folder is not None and not (folder / "release.json").is_file() and not (folder / MANIFEST).is_file():
        model = identify(folder.resolve())
        return Found(model, re.sub(r"[^a-z0-9-]", "-", model.name.lower()).strip("-") or "model")
    if folder is not None and not alone and len(folder.parts) > 1:
        raise ModelError(f"There is no folder {folder}.", "Name a release by the first digits of its id, or a folder.")
    release = open_release(folder) if alone and folder is not None else find_release(start, target)
    own = release.candidate.model
    if own.format in formats and not weights:
        return Found(own, release.name, release.id)
    try:
        with open_project(start, _silent(), lock=False) as project:
            model = _of_lineage(project, own, server, weights)
    except ConfigError as error:
        raise ModelError(
            f"{server} does not open the release's weights ({own.format} {own.weights}), and the model they were made "
            "from is not in the release.",
            "Run this in the project that made the release (--project).",
        ) from error
    told = (
        f"The release was measured with {own.format} {own.weights} weights; {server} gets {model.weights} weights of "
        "the same model, whose answers can differ. Evaluate it as a provider before you rely on the release's figures."
    )
    return Found(msgspec.structs.replace(model, name=release.name), release.name, release.id, told)


def _of_lineage(project: Project, own: Model, server: str, weights: str) -> Model:
    """Return the nearest model among what a release was made from, and what was exported from that, for a server."""
    known = {item.id: item for item in project.store.artifacts() if item.kind == "model"}
    ancestors = list(_ancestors(known, own.artifact_id))
    exported = "gguf" if server == "llamacpp" else weights
    if exported:
        for ancestor in ancestors:
            for item in known.values():
                kind = str(item.origin.settings.get("export", ""))
                fits = kind == weights if weights else kind.startswith(exported)
                if fits and ancestor.id in item.origin.parents and item.path.is_dir():
                    return identify(item.path)
        wanted = weights or "gguf-q4_k_m"
        raise ModelError(
            f"The release's model was not exported as {wanted}.",
            f"Add it to compress.exports and run: vivace compress . --set 'compress.exports=[\"{wanted}\"]'",
        )
    for item in ancestors:
        for path in (item.path, item.path / "model"):
            if (path / "config.json").is_file() and any(path.glob("*.safetensors")) and _is_whole_model(path):
                return msgspec.structs.replace(identify(path), artifact_id=item.id)
    raise ModelError(
        "The model that the release was exported from is not in the project's store any more.",
        "Make it again with: vivace compress . (a stage whose artifact is missing is run again)",
    )


def _ancestors(known: dict[str, Artifact], first: str) -> Iterator[Artifact]:
    """Walk up from an artifact, the nearest first."""
    queue, seen = deque([first]), {first}
    while queue:
        item = known.get(queue.popleft())
        if item is None:
            continue
        if item.id != first or item.origin.stage in HEALED:
            yield item
        for parent in item.origin.parents:
            if parent not in seen:
                seen.add(parent)
                queue.append(parent)


def _is_whole_model(path: Path) -> bool:
    try:
        return identify(path).format == "hf"
    except VivaceError:
        return False


def _own_server(order: Order) -> Ready:
    """Return `vivace serve` as a server like the others."""
    release = find_release(Path(order.target), "") if order.target and Path(order.target).exists() else None
    place = Path(order.target) if release is not None else order.start
    release = release or find_release(order.start, order.target)
    wishes = order.wishes
    command = [sys.executable, "-P", "-m", "vivace", "serve", str(place.resolve()), "--host", wishes.host]
    command += ["--port", str(wishes.port)] + (["--release", release.id] if place == order.start else [])
    environment = {}
    if wishes.key_env:
        environment["VIVACE_SERVE__API_KEYS"] = f'["env:{wishes.key_env}"]'
    if wishes.threads:
        environment["VIVACE_SERVE__THREADS"] = str(wishes.threads)
    if order.container:
        raise EngineError("There is no container image of Vivace.", "Leave --container out.")
    folder = release.candidate.model.path
    from vivace.models.tokenizer import context_length

    made = Launch(
        "vivace", tuple(command), release.name, f"http://{wishes.host}:{wishes.port}", context_length(folder),
        str(folder) if (folder / "tokenizer.json").is_file() else "", environment, wishes.key_env,
    )  # fmt: skip
    return Ready(made, str(folder), shell_line(made.command, environment), provider_table(made))


def _check_program(order: Order) -> None:
    import shutil
    from importlib.util import find_spec

    server = SERVERS[order.server]
    if order.container:
        name = "docker" if order.container == "compose" else order.container
        problem = runtimes().get(name, f"there is no {name} on this machine")
        if problem:
            raise EngineError(
                f"{server.name} cannot be started in a container: {problem}.", "Use --print for the command."
            )
    elif order.server == "llamacpp" and find_spec("xllamacpp") is not None:
        return
    elif order.server != "vivace" and shutil.which(server.program) is None:
        raise EngineError(
            f"There is no {server.program} on this machine.", f"To get it: {server.get}. --print shows the command."
        )


def servers_folder() -> Path:
    """Return where logs and notes of started servers are."""
    folder = cache_root() / "servers"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _silent() -> Progress:
    from vivace.domain import SilentProgress

    return SilentProgress()


__all__ = ["Found", "Order", "Ready", "export_for", "last_words", "prepare", "run_server", "servable"]
