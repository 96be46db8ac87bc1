"""Find a release of a project, or one that was copied somewhere."""

from pathlib import Path

from vivace.domain import Artifact, Release, SilentProgress
from vivace.errors import StoreError
from vivace.loop.project import open_project
from vivace.release import open_release
from vivace.store.artifacts import MANIFEST


def list_releases(start: Path) -> list[Artifact]:
    """Return the project's releases, newest first."""
    with open_project(start, SilentProgress(), lock=False) as project:
        return project.store.artifacts("release")


def find_release(start: Path, prefix: str = "") -> Release:
    """Open the newest release of the project at `start`, the one whose id begins with `prefix`, or a release folder."""
    if (start / "release.json").is_file() or (start / MANIFEST).is_file():
        return open_release(start)
    found = [item for item in list_releases(start) if item.id.startswith(prefix)]
    if not found:
        what = f"There is no release {prefix!r}" if prefix else "There is no release yet"
        raise StoreError(
            f"{what} in {start.resolve()}.", "Make one with `vivace run`; `vivace release list` shows them."
        )
    return open_release(found[0].path)
