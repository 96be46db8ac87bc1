"""Offer a project's release over HTTP."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from vivace.config import Settings, find_config, load
from vivace.domain import Progress
from vivace.errors import ConfigError
from vivace.loop.project import STORE
from vivace.loop.releases import find_release
from vivace.loop.tuned import tuned_for
from vivace.release import read_origin


def serve_release(
    start: Path, prefix: str, *, host: str | None, port: int | None, progress: Progress, say: Callable[[str], None]
) -> None:
    """Serve until a signal says stop; `host` and `port` win over `[serve]`."""
    import uvloop

    from vivace.serve.run import run_server

    settings = settings_at(start)
    changes = {name: value for name, value in (("host", host), ("port", port)) if value is not None}
    serve = settings.serve.model_copy(update=changes)
    with progress.task("Checking the release"):
        release = find_release(start, prefix)
    made = datetime.fromisoformat(read_origin(release.path)["created_at"])
    say(f"Opening {release.name} {release.id[:12]} ({release.candidate.model.weights} on {release.candidate.engine}) …")

    def ready(url: str) -> None:
        say(f"Serving {release.name} at {url}/v1 (health: {url}/health). Ctrl-C stops.")

    uvloop.run(
        run_server(
            release.candidate,
            serve,
            model_name=release.name,
            release_id=release.id,
            created=int(made.timestamp()),
            opened_with=_opening(start, settings, release.candidate.model.artifact_id),
            on_ready=ready,
        )
    )
    say("Stopped.")


def _opening(start: Path, settings: Settings, artifact_id: str) -> dict[str, Any]:
    """Return what `vivace engines tune` found best for the release's model on this machine."""
    try:
        root = find_config(start).parent
    except ConfigError:  # a release folder that stands alone
        return {}
    found = tuned_for(root / STORE, artifact_id) if settings.engines.tuned else None
    return found.opening if found is not None else {}


def settings_at(start: Path) -> Settings:
    """Return the settings of the project at or above `start`; a release folder that stands alone gets the defaults."""
    try:
        path = find_config(start)
    except ConfigError:
        if start.exists():
            return Settings()
        raise
    return load(path)
