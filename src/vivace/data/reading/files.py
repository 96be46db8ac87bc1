"""Which files the settings name."""

import difflib
import glob
import re
from pathlib import Path

from vivace.config.data import DataSettings
from vivace.data.reading.dataset_info import is_dataset_info, listed_datasets
from vivace.errors import DataError

DOCUMENT_SUFFIXES = (".md", ".markdown", ".txt", ".text", ".rst", ".html", ".htm", ".xhtml", ".pdf", ".docx")
RECORD_SUFFIXES = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".parquet", ".arrow")
PACKED_SUFFIXES = (".gz", ".zst")
_ABOUT_DATASETS = ("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json")
_SPLIT_WORDS = {
    "train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
    "dev": "validation", "test": "test", "testing": "test", "heldout": "test", "held_out": "test",
}  # fmt: skip
_SHARD = re.compile(r"[-_.]\d+[-_]of[-_]\d+$")


def input_files(settings: DataSettings, root: Path) -> list[Path]:
    """Return every file that `prepare` reads, sorted; raises `DataError` for a name or pattern without a file."""
    conversations, test = conversation_files(settings, root)
    listed = [
        inner
        for path in (*conversations, *test)
        if is_dataset_info(path)
        for dataset in listed_datasets(path)
        for inner in dataset.paths
    ]
    return sorted({*conversations, *test, *listed, *document_files(settings, root)})


def conversation_files(settings: DataSettings, root: Path) -> tuple[list[Path], list[Path]]:
    """Return the files to learn from and the held-out ones; a file that both name is held out.

    Of a folder, the files of records in it and below are read; those whose names say `test` are held out.
    """
    if not settings.conversations:
        raise DataError(
            "No conversations are named.", 'Name them in vivace.toml: [data] conversations = ["conversations/*.jsonl"].'
        )
    test = _expand(settings.test, root, "test")
    files = _expand(settings.conversations, root, "conversations")
    folders = [place for pattern in settings.conversations if (place := root / Path(pattern).expanduser()).is_dir()]
    for folder in folders:
        test += [path for path in files if path.is_relative_to(folder) and named_split(path, folder) == "test"]
    held_out = {path.resolve(): path for path in test}
    files = [path for path in files if path.resolve() not in held_out]
    if not files:
        raise DataError(
            "Every file of `conversations` is also named by `test`; nothing is left to learn from.",
            "Name other files in `conversations`, or leave `test` out: `test_fraction` is then held out.",
        )
    return files, [held_out[path] for path in sorted(held_out)]


def record_files(folder: Path) -> list[Path]:
    """Return the files of records in a folder and below, as the `datasets` library lays them out or otherwise."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.is_file()
        and unpacked_name(path).endswith(RECORD_SUFFIXES)
        and path.name not in _ABOUT_DATASETS
        and not path.name.startswith(("cache-", "."))
    )


def named_split(path: Path, folder: Path | None = None) -> str:
    """Return the split that a file's name, or a folder's between `folder` and the file, says: "" for none.

    Without `folder`, the file's name counts, and its folder's where `datasets` saved it.
    """
    names = [_SHARD.sub("", stem(path).lower())]
    if folder is not None:
        names += [part.lower() for part in reversed(path.relative_to(folder).parts[:-1])]
    elif path.suffix == ".arrow":
        names.append(path.parent.name.lower())
    return next((_SPLIT_WORDS[name] for name in names if name in _SPLIT_WORDS), "")


def unpacked_name(path: Path) -> str:
    """Return the file's name in lower case, without the ending of its compression."""
    name = path.name.lower()
    return next((name.removesuffix(suffix) for suffix in PACKED_SUFFIXES if name.endswith(suffix)), name)


def document_files(settings: DataSettings, root: Path) -> list[Path]:
    """Return the documents; of a folder, the files in it and below whose ending is a document's."""
    return _expand(settings.documents, root, "documents")


def documents_below(folder: Path) -> list[Path]:
    """Return the documents in a folder and below."""
    endings = (*DOCUMENT_SUFFIXES, ".jsonl")
    return sorted(path for path in folder.rglob("*") if path.is_file() and unpacked_name(path).endswith(endings))


def label(path: Path, root: Path) -> str:
    """Return how reports name a file: relative to the project, or its folder's name and its own."""
    path = path.resolve()
    if path.is_relative_to(root.resolve()):
        return path.relative_to(root.resolve()).as_posix()
    return f"{path.parent.name}/{path.name}"


def stem(path: Path) -> str:
    """Return the file's name without compression and format."""
    name = path.name
    for suffix in PACKED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name.rsplit(".", 1)[0] or path.name


def _expand(patterns: list[str], root: Path, key: str) -> list[Path]:
    found: dict[Path, Path] = {}
    for pattern in patterns:
        place = root / Path(pattern).expanduser()
        if place.is_dir():
            paths = documents_below(place) if key == "documents" else record_files(place)
            if not paths:
                raise DataError(*_empty_folder(pattern, key == "documents"))
        elif place.exists():
            paths = [place]
        else:
            paths = [Path(path) for path in glob.glob(str(place), recursive=True) if Path(path).is_file()]
        if not paths:
            raise DataError(f"{key}: no file is called or matches {pattern!r}.", _nearest(place, root))
        found.update((path.resolve(), path) for path in paths)
    return [found[path] for path in sorted(found)]


def _empty_folder(pattern: str, documents: bool) -> tuple[str, str]:
    if documents:
        return f"The folder {pattern!r} has no documents.", f"Documents end with {', '.join(DOCUMENT_SUFFIXES)}."
    return (
        f"The folder {pattern!r} has no conversations.",
        f"Files of conversations end with {', '.join(RECORD_SUFFIXES)}, packed or not; name others one by one.",
    )


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
