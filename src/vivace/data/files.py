"""Which files the settings name."""

import difflib
import glob
from pathlib import Path

from vivace.config.settings import DataSettings
from vivace.errors import DataError

DOCUMENT_SUFFIXES = (".md", ".markdown", ".txt", ".text", ".rst")


def input_files(settings: DataSettings, root: Path) -> list[Path]:
    """Return every file that `prepare` reads, sorted; raises `DataError` for a name or pattern without a file."""
    conversations, test = conversation_files(settings, root)
    return sorted({*conversations, *test, *document_files(settings, root)})


def conversation_files(settings: DataSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """Return the files to learn from and the held-out ones; a file that both name is held out."""
    if not settings.conversations:
        raise DataError(
            "No conversations are named.", 'Name them in vivace.toml: [data] conversations = ["conversations/*.jsonl"].'
        )
    test = _expand(settings.test, root, "test")
    held_out = {path.resolve() for path in test}
    files = [path for path in _expand(settings.conversations, root, "conversations") if path.resolve() not in held_out]
    if not files:
        raise DataError(
            "Every file of `conversations` is also named by `test`; nothing is left to learn from.",
            "Name other files in `conversations`, or leave `test` out: `test_fraction` is then held out.",
        )
    return files, test


def document_files(settings: DataSettings, root: Path) -> list[Path]:
    """Return the documents; of a folder, the Markdown and text files in it and below."""
    return _expand(settings.documents, root, "documents", folders=True)


def label(path: Path, root: Path) -> str:
    """Return how reports name a file: relative to the project, or its folder's name and its own."""
    path = path.resolve()
    if path.is_relative_to(root.resolve()):
        return path.relative_to(root.resolve()).as_posix()
    return f"{path.parent.name}/{path.name}"


def stem(path: Path) -> str:
    """Return the file's name without compression and format."""
    return path.name.removesuffix(".gz").rsplit(".", 1)[0] or path.name


def _expand(patterns: list[str], root: Path, key: str, folders: bool = False) -> list[Path]:
    found: dict[Path, Path] = {}
    for pattern in patterns:
        place = root / Path(pattern).expanduser()
        if place.is_dir():
            paths = [path for path in place.rglob("*") if path.suffix.lower() in DOCUMENT_SUFFIXES] if folders else []
            if not paths:
                raise DataError(*_empty_folder(pattern, folders))
        elif place.exists():
            paths = [place]
        else:
            paths = [Path(path) for path in glob.glob(str(place), recursive=True) if Path(path).is_file()]
        if not paths:
            raise DataError(f"{key}: no file is called or matches {pattern!r}.", _nearest(place, root))
        found.update((path.resolve(), path) for path in paths)
    return [found[path] for path in sorted(found)]


def _empty_folder(pattern: str, folders: bool) -> tuple[str, str]:
    if folders:
        return f"The folder {pattern!r} has no documents.", f"Documents end with {', '.join(DOCUMENT_SUFFIXES)}."
    return f"{pattern!r} is a folder.", f"Name the files in it, for example {pattern.rstrip('/')}/*.jsonl."


def _nearest(place: Path, root: Path) -> str:
    folder = place.parent
    if not folder.is_dir():
        folder = root
    names = sorted(path.name for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    close = difflib.get_close_matches(place.name, names, n=1, cutoff=0.3)
    if close:
        near = folder / close[0]
        return f"Did you mean {near.relative_to(root) if near.is_relative_to(root) else near}?"
    return f"{folder} has {', '.join(names[:8])}." if names else f"{folder} has no files."
