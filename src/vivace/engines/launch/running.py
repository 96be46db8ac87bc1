"""A server that was started: its log in a file, waited for until it is healthy, and stopped."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import psutil
from msgspec import Struct

from vivace.domain import Task
from vivace.engines.launch.servers import Launch
from vivace.errors import ConfigError, EngineError
from vivace.store.files import disk_errors, write_atomic

READY_S = 1800.0
"""Longest time until it is healthy: a large model is read from a disk, compiled and warmed up."""
POLL_S = 0.5
STOP_S = 20.0
_LAST_LINES = 40
_LAST_BYTES = 64_000


class Running(Struct, frozen=True):
    """A server under way; `started` tells its process from a later one with the same number."""

    server: str
    name: str
    url: str
    pid: int
    started: float
    log: str
    command: tuple[str, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return _process(self) is not None


def free_port(host: str, port: int) -> int:
    """Return the port if it is free, another one for 0; raises `ConfigError` for one that is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"{host}:{port} cannot be listened on: {error.strerror}.", "Take another one with --port, or 0 for any."
            ) from error
        return int(probe.getsockname()[1])


def environment_of(launch: Launch, outer: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of the server's process; raises `ConfigError` where a key's variable is not set."""
    found = dict(outer)
    for name, value in launch.environment.items():
        if value.startswith("env:"):
            if not outer.get(value[4:]):
                raise ConfigError(f"The environment variable {value[4:]} is not set, which holds the server's key.")
            value = outer[value[4:]]
        found[name] = value
    return found


def launch(
    wanted: Launch, log: Path, bar: Task, *, cwd: Path | None = None, ready_s: float = READY_S, detach: bool = False
) -> Running:
    """Start the server and wait until it is healthy; raises `EngineError` with its last words when it does not get so.

    Interrupted meanwhile, it is stopped again. Detached, it outlives this process.
    """
    environment = environment_of(wanted, os.environ)
    with disk_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        file = open(log, "wb")  # noqa: SIM115 - closed below; the child keeps its own
    with file:
        try:
            process = subprocess.Popen(
                wanted.command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=cwd,
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(f"{wanted.command[0]} cannot be started: {error.strerror}.") from error
    running = Running(
        wanted.server, wanted.name, wanted.url, process.pid, _started(process.pid), str(log), wanted.command
    )
    try:
        _await_health(wanted, process, log, bar, ready_s)
    except BaseException:
        stop(running)
        process.wait()
        raise
    return running


def _await_health(wanted: Launch, process: subprocess.Popen[bytes], log: Path, bar: Task, ready_s: float) -> None:
    until = time.monotonic() + ready_s
    said = ""
    while True:
        if process.poll() is not None:
            raise EngineError(
                f"{wanted.server} ended before it was ready ({_ending(process.returncode)}): {last_words(log)}",
                f"Its whole log is {log}.",
            )
        if healthy(wanted.url, wanted.health):
            return
        if time.monotonic() > until:
            raise EngineError(
                f"{wanted.server} was not ready within {ready_s:g} s; its log ends: {last_words(log)}",
                f"Its whole log is {log}; give it longer with --ready-s.",
            )
        if (last := last_line(log)) != said:
            said = last
            bar.note(said[:60])
        bar.advance(POLL_S)
        time.sleep(POLL_S)


def healthy(url: str, path: str = "/health", timeout_s: float = 2.0) -> bool:
    """Say whether the server at `url` answers its health check with 200."""
    return _get(url, path, {}, timeout_s)[0] == 200


def served_models(url: str, key: str = "") -> list[str]:
    """Return the names that the server says it serves, empty where it tells none."""
    status, body = _get(url, "/v1/models", {"Authorization": f"Bearer {key}"} if key else {}, 5.0)
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        if status == 200:
            return [str(each["id"]) for each in json.loads(body)["data"]]
    return []


def wait_for_end(running: Running, every_s: float = 1.0, on_sick: Callable[[], None] = lambda: None) -> str:
    """Return how the server ended once it has; `on_sick` is called when it stops being healthy while it runs."""
    sick = False
    while running.alive:
        well = healthy(running.url)
        if not well and not sick:
            on_sick()
        sick = not well
        time.sleep(every_s)
    return last_words(Path(running.log))


def stop(running: Running) -> bool:
    """Stop a server and what it started: ask, then kill; returns whether it was running."""
    process = _process(running)
    if process is None:
        return False
    family = [process, *_children(process)]
    for number, patience_s in ((signal.SIGINT, STOP_S / 2), (signal.SIGTERM, STOP_S / 2), (signal.SIGKILL, 5.0)):
        # Its own session: the group is the server and its workers, nobody else.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(running.pid, number)
        family = psutil.wait_procs(family, timeout=patience_s, callback=None)[1]
        if not any(each.pid == running.pid for each in family if _lives(each)):
            break
    for left in family:
        with suppress(psutil.Error):
            left.kill()
    return True


def remember(running: Running, folder: Path) -> Path:
    """Keep note of a server that goes on without us."""
    path = folder / f"{running.server}-{running.name}.json"
    with disk_errors(path):
        folder.mkdir(parents=True, exist_ok=True)
    write_atomic(path, msgspec.json.format(msgspec.json.encode(running), indent=1))
    return path


def remembered(folder: Path) -> dict[Path, Running]:
    """Return the servers noted in `folder` that still run; notes of others are removed."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        try:
            running = msgspec.json.decode(path.read_bytes(), type=Running)
        except (OSError, msgspec.MsgspecError):
            continue
        if running.alive:
            found[path] = running
        else:
            path.unlink(missing_ok=True)
    return found


def last_words(log: Path) -> str:
    """Return the line of a log that tells most about an end: the last error, else the last line."""
    lines = _tail(log)
    telling = [line for line in lines if "Error" in line or "error:" in line.lower() or "CUDA" in line]
    said = (telling or lines or ["it wrote nothing."])[-1]
    return said[:400]


def last_line(log: Path) -> str:
    """Return the last line of a log."""
    return (_tail(log) or [""])[-1]


def _tail(log: Path) -> list[str]:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LAST_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return []
    return [line.strip() for line in text.splitlines() if line.strip()][-_LAST_LINES:]


def _get(url: str, path: str, headers: dict[str, str], timeout_s: float) -> tuple[int, bytes]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=timeout_s)
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        return response.status, response.read(1_000_000)
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def _ending(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _started(pid: int) -> float:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def _process(running: Running) -> psutil.Process | None:
    try:
        process = psutil.Process(running.pid)
        same = abs(process.create_time() - running.started) < 1.0
    except psutil.Error:
        return None
    return process if same and _lives(process) else None


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running()) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.Error:
        return []
