"""Datasets of a project: find one, correct its labels, look at its tokens."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from vivace.domain import Artifact, Progress, SilentProgress
from vivace.errors import ConfigError, DataError, StoreError
from vivace.loop.project import Project, open_project

if TYPE_CHECKING:
    from vivace.data.tokens.training import Algorithm

STAGES = ("data", "augment")


def list_datasets(start: Path) -> list[Artifact]:
    """Return the project's datasets, newest first."""
    with open_project(start, SilentProgress(), lock=False) as project:
        return _datasets(project)


def find_dataset(start: Path, prefix: str = "") -> Artifact:
    """Return the newest dataset of the project at `start`, or the newest whose id begins with `prefix`."""
    found = [item for item in list_datasets(start) if item.id.startswith(prefix)]
    if not found:
        what = f"There is no dataset {prefix!r}" if prefix else "There is no dataset yet"
        raise StoreError(f"{what} in {start.resolve()}.", "Make one with `vivace data`; `vivace data list` shows them.")
    return found[0]


def dataset_folder(start: Path, name: str) -> Path:
    """Return the folder of a dataset named by its folder or by the first digits of its id."""
    folder = Path(name)
    return folder if (folder / "report.json").is_file() else find_dataset(start, name).path


def correct_label(start: Path, row: str, change: str) -> dict[str, Any]:
    """Write a correction (`field=value`) of a row's label beside vivace.toml, and return it with the old value."""
    from vivace.data.card.fate import fate
    from vivace.data.labels.corrections import Correction, append_correction

    label, equals, value = change.partition("=")
    if not equals or not label.strip():
        raise ConfigError(f"{change!r} is not FIELD=VALUE.", "For example: intent=refund")
    with open_project(start, SilentProgress(), lock=False) as project:
        found = _datasets(project)
        if not found:
            raise StoreError(f"There is no dataset yet in {project.root}.", "Make one with `vivace data`.")
        known = fate(found[0].path, row)
        if known.outcome != "kept":
            raise DataError(known.sentence, "Only a row that is in the dataset has a label to correct.")
        path = project.root / project.settings.data.label.corrections
        moment = datetime.now(UTC).isoformat(timespec="seconds")
        append_correction(path, Correction(known.id, known.content_hash, label.strip(), value.strip(), at=moment))
    return {"id": known.id, "field": label.strip(), "before": known.labels.get(label.strip()), "after": value.strip(),
            "file": str(path)}  # fmt: skip


def count_tokens(
    start: Path, names: list[str], progress: Progress, *, trim: int | None = None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the tokenizers of models (the base's, if none is named) make of the newest dataset.

    The second part tells, for each model, what a vocabulary of `trim` tokens would cover; it is empty without `trim`.
    """
    from vivace.data.tokens.statistics import token_statistics
    from vivace.data.tokens.trimming import trim_statistics

    dataset = find_dataset(start)
    with open_project(start, progress, lock=False) as project:
        folders = _model_folders(project, names)
        counted = token_statistics(dataset.path, folders, max_length=project.settings.train.max_length)
        if trim is None:
            return counted, {}
        return counted, {
            name: trim_statistics(dataset.path, folder, vocab_size=trim) for name, folder in folders.items()
        }


def learn_tokenizer(start: Path, out: Path, progress: Progress, *, algorithm: str, vocab_size: int) -> dict[str, Any]:
    """Learn a tokenizer from the newest dataset into `out`, with the base's special tokens, and compare the two."""
    from vivace.data.tokens.training import train_tokenizer

    dataset = find_dataset(start)
    with open_project(start, progress, lock=False) as project:
        (base,) = _model_folders(project, []).values()
        return train_tokenizer(dataset.path, base, out, algorithm=cast("Algorithm", algorithm), vocab_size=vocab_size)


def _model_folders(project: Project, names: list[str]) -> dict[str, Path]:
    from vivace.models import resolve

    wanted = project.settings.models
    return {
        name: resolve(name, wanted.revision, progress=project.progress, root=project.root).path
        for name in names or [wanted.base]
    }


def _datasets(project: Project) -> list[Artifact]:
    found = [item for stage in STAGES for item in project.store.artifacts(stage)]
    return sorted(found, key=lambda item: item.origin.created_at, reverse=True)
