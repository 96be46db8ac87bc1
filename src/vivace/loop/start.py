"""Begin a project from a user's own files."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vivace.config import FILE_NAME, commented_toml
from vivace.data import Sniff, sniff
from vivace.errors import ConfigError
from vivace.store.files import write_atomic

PLACES = ("conversations", "test", "documents")


def start_project(
    folder: Path,
    conversations: list[Path],
    documents: list[Path],
    *,
    name: str = "",
    system: str = "",
    base: str = "",
    max_conversations: int | None = None,
    format: str = "",
    columns: Mapping[str, str] | None = None,
    force: bool = False,
) -> tuple[Path, Sniff]:
    """Write a commented `vivace.toml` in `folder` for these files and return it with what the files hold."""
    target = folder / FILE_NAME
    if target.exists() and not force:
        raise ConfigError(f"{target} is there already.", "Edit it, or use --force to write it anew.")
    missing = [path for path in (*conversations, *documents) if not path.exists()]
    if missing:
        raise ConfigError(f"There is no {missing[0]}.", "Check the path; it is taken from the current folder.")
    found = sniff([*conversations, *documents], format, columns)
    chosen: dict[str, dict[str, Any]] = {"project": {"name": name or project_name(folder)}}
    if system:
        chosen["project"]["system"] = system
    if base:
        chosen["models"] = {"base": base}
    # Files named like a test set are held out; the rest is what the looking suggests.
    chosen["data"] = found.settings | {
        key: [_relative(Path(path), folder) for path in found.settings[key]] for key in PLACES if key in found.settings
    }
    chosen["data"] |= {"format": format} if format else {}
    chosen["data"] |= {"columns": dict(columns)} if columns else {}
    if max_conversations:
        chosen["data"]["max_conversations"] = max_conversations
    write_atomic(target, commented_toml(chosen))
    return target, found


def project_name(folder: Path) -> str:
    """Return a valid project name made from the folder's."""
    name = re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-")
    return name[:63] or "chatbot"


def _relative(path: Path, folder: Path) -> str:
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()
