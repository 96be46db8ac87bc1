"""The same server in a container: a `docker run` (or podman) line, or a compose file."""

import json
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import msgspec

from vivace.engines.launch.servers import LOCAL, SERVERS, Launch
from vivace.errors import EngineError

Runtime = Literal["docker", "podman", "compose"]
INSIDE = Path("/model")
ANSWER_S = 5.0
_PORT = 8000


def containerize(
    launch: Launch,
    model: Path,
    runtime: Runtime,
    *,
    image: str = "",
    gpus: int | None = None,
    file: str = "compose.yaml",
) -> Launch:
    """Return the launch with a command that runs it in a container, the model mounted read-only.

    For `compose` the command starts what `compose_file` wrote into `file`.
    """
    server = SERVERS[launch.server]
    image = image or server.image
    if not image:
        raise EngineError(
            f"There is no container image of {server.name}.", "Name one with --image, or leave --container out."
        )
    name = container_name(launch)
    if runtime == "compose":
        command = ["docker", "compose", "--project-name", name, "--file", file, "up", "--abort-on-container-exit"]
        return msgspec.structs.replace(launch, command=tuple(command))
    command = [runtime, "run", "--rm", "--name", name, "--publish", f"{_address(launch)}:{_PORT}"]
    command += ["--volume", f"{_mounted(model)}:{INSIDE}:ro"]
    for variable, value in launch.environment.items():
        # A key is handed on by its name: its value stays out of the command line and of `docker inspect`'s history.
        command += ["--env", variable if value.startswith("env:") else f"{variable}={value}"]
    if server.needs_gpu:
        command += ["--ipc", "host"]
        count = "all" if gpus is None else str(gpus)
        command += ["--gpus", count] if runtime == "docker" else ["--device", "nvidia.com/gpu=all"]
    command += [image, *arguments(launch, model)]
    return msgspec.structs.replace(launch, command=tuple(command))


def compose_file(launch: Launch, model: Path, *, image: str = "", gpus: int | None = None) -> str:
    """Return a compose file for the server; keys are read from the environment of whoever starts it."""
    server = SERVERS[launch.server]
    lines = ["services:", f"  {container_name(launch)}:", f"    image: {json.dumps(image or server.image)}"]
    lines += ["    restart: unless-stopped", "    ports:", f"      - {json.dumps(f'{_address(launch)}:{_PORT}')}"]
    lines += ["    volumes:", "      - type: bind", f"        source: {json.dumps(str(_mounted(model)))}"]
    lines += [f"        target: {INSIDE}", "        read_only: true"]
    if launch.environment:
        lines += ["    environment:"]
        for variable, value in launch.environment.items():
            name = value.removeprefix("env:")
            told = f"${{{name}:?set {name}}}" if value.startswith("env:") else value
            lines.append(f"      {variable}: {json.dumps(told)}")
    if server.needs_gpu:
        count = "all" if gpus is None else str(gpus)
        lines += ["    ipc: host", "    deploy:", "      resources:", "        reservations:", "          devices:"]
        lines += [f"            - {{driver: nvidia, count: {count}, capabilities: [gpu]}}"]
    lines += ["    healthcheck:", f"      test: [CMD-SHELL, {json.dumps(_probe(launch))}]"]
    lines += ["      interval: 10s", "      timeout: 5s", "      retries: 60", "    command:"]
    lines += [f"      - {json.dumps(part.replace('$', '$$'))}" for part in arguments(launch, model)]
    return "\n".join(lines) + "\n"


def arguments(launch: Launch, model: Path) -> list[str]:
    """Return what follows the image: the command without its program, with the paths and the address inside."""
    words = list(launch.command)
    if launch.server == "vllm":
        words = words[2:]
        if words and words[0] == str(model):
            words = ["--model", *words]  # the image's program is the server itself, not `vllm serve`
    elif "-m" in words:
        words = words[words.index("-m") + 2 :]
    else:
        words = words[1:]
    inside = [_inside(word, model) for word in words]
    for flag, value in (("--host", "0.0.0.0"), ("--hostname", "0.0.0.0"), ("--port", str(_PORT))):
        if flag in inside:
            inside[inside.index(flag) + 1] = value
    return inside


def container_name(launch: Launch) -> str:
    """Return the name of the server's container."""
    return f"vivace-{launch.server}-{launch.name}"


def runtimes() -> dict[str, str]:
    """Return the container runtimes that are installed, each with why it cannot be used, empty where it can."""
    found = {}
    for name in ("docker", "podman"):
        if shutil.which(name):
            try:
                done = subprocess.run([name, "info"], capture_output=True, text=True, timeout=ANSWER_S, check=False)
            except (OSError, subprocess.TimeoutExpired):
                found[name] = f"{name} does not answer within {ANSWER_S:g} s"
            else:
                lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
                found[name] = "" if done.returncode == 0 else (lines[-1][:200] if lines else f"{name} info failed")
    return found


def shell_line(command: tuple[str, ...], environment: Mapping[str, str]) -> str:
    """Return a command for a shell: environment first, a key as the variable that holds it."""
    said = [
        f'{name}="${value[4:]}"' if value.startswith("env:") else f"{name}={shlex.quote(value)}"
        for name, value in environment.items()
    ]
    return " ".join([*said, shlex.join(command)])


def _address(launch: Launch) -> str:
    host, _, port = launch.url.removeprefix("http://").rpartition(":")
    words = launch.command
    flag = next((flag for flag in ("--host", "--hostname") if flag in words), "")
    host = words[words.index(flag) + 1] if flag else host or LOCAL
    return f"{host}:{port}"


def _mounted(model: Path) -> Path:
    return model if model.is_dir() else model.parent


def _inside(word: str, model: Path) -> str:
    outside = str(_mounted(model))
    return str(INSIDE) + word[len(outside) :] if word == outside or word.startswith(outside + "/") else word


def _probe(launch: Launch) -> str:
    url = f"http://127.0.0.1:{_PORT}{launch.health}"
    return f"python3 -c \"import urllib.request as r; r.urlopen('{url}')\" || curl -sf {url}"
