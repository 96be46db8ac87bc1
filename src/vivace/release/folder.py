"""A release on disk: everything that decides how it answers, and nothing that does not."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from vivace.domain import Candidate, Model, Objective, Release, Scorecard, Verdict
from vivace.errors import StoreError
from vivace.store.artifacts import MANIFEST, is_whole
from vivace.store.files import disk_errors, guard_disk, write_atomic

FORMAT = 1


class _Card(msgspec.Struct, frozen=True):
    """What `release.json` holds; how it answers is in the scorecard's candidate."""

    format: int
    name: str
    objective: Objective
    parents: tuple[str, ...]
    test_sha256: str = ""


def write_release(
    out: Path,
    name: str,
    card: Scorecard,
    verdicts: list[Verdict],
    objective: Objective,
    recipe: str,
    parents: tuple[str, ...],
    test_sha256: str = "",
    papers: Mapping[str, bytes] | None = None,
) -> None:
    """Fill `out` with `release.json`, `model/`, `scorecard.json`, `verdicts.json` and `recipe.toml`.

    `test_sha256` is the hash of the test examples that the scores are from; `papers` are further files by name.
    """
    model = card.candidate.model
    guard_disk(out, sum(path.stat().st_size for path in model.path.rglob("*") if path.is_file()))
    with disk_errors(out):
        shutil.copytree(model.path, out / "model", dirs_exist_ok=True)
    told = _Card(format=FORMAT, name=name, objective=objective, parents=parents, test_sha256=test_sha256)
    portable = msgspec.structs.replace(card, candidate=_relocate(card.candidate, Path("model")))
    for file, content in (("release.json", told), ("scorecard.json", portable), ("verdicts.json", verdicts)):
        write_atomic(out / file, msgspec.json.format(msgspec.json.encode(content, enc_hook=str), indent=1))
    write_atomic(out / "recipe.toml", recipe)
    for file, paper in (papers or {}).items():
        write_atomic(out / file, paper)


def open_release(folder: Path, *, verify: bool = True) -> Release:
    """Open a release folder (or the sealed folder around it); `verify` checks every file against its hash."""
    sealed = folder if (folder / MANIFEST).is_file() else folder.parent
    files = sealed / "files"
    if not (files / "release.json").is_file():
        raise StoreError(f"{folder} is not a release.", "`vivace release list` shows those of this project.")
    if verify and not is_whole(sealed, deep=True):
        raise StoreError(
            f"The release {sealed.name[:12]} was changed or damaged after it was made.",
            "Run `vivace run` to make it again, or serve another one from `vivace release list`.",
        )
    try:
        told = msgspec.json.decode((files / "release.json").read_bytes(), type=_Card)
        card = msgspec.json.decode((files / "scorecard.json").read_bytes(), type=Scorecard, dec_hook=_read_path)
    except msgspec.MsgspecError as error:
        raise StoreError(
            f"The release in {folder} cannot be read: {error}.", "Was it made by a newer Vivace?"
        ) from error
    candidate = _relocate(card.candidate, files / "model")
    return Release(
        id=sealed.name,
        name=told.name,
        path=files,
        candidate=candidate,
        scorecard=msgspec.structs.replace(card, candidate=candidate),
        parents=told.parents,
        test_sha256=told.test_sha256,
    )


def read_origin(files: Path) -> dict[str, Any]:
    """Return which stage made a release, when, and from what."""
    origin: dict[str, Any] = msgspec.json.decode((files.parent / MANIFEST).read_bytes())["origin"]
    return origin


def _relocate(candidate: Candidate, path: Path) -> Candidate:
    model: Model = msgspec.structs.replace(candidate.model, path=path, base=None)
    return msgspec.structs.replace(candidate, model=model)


def _read_path(kind: type, value: object) -> object:
    if kind is Path and isinstance(value, str):
        return Path(value)
    raise TypeError(kind)
