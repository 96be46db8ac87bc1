"""The user's tasks for lm-evaluation-harness: found, read and checked before anything is run."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from msgspec import Struct

from vivace.errors import ConfigError, DataError, ResourceError

LM_EVAL = "lm_eval==0.4.13"
LOCAL = frozenset({"json", "csv", "parquet", "text", "arrow"})
"""Builders of `datasets` that read files; any other dataset_path is looked up on a hub."""
SUPPORTED = ("multiple_choice", "generate_until", "loglikelihood", "loglikelihood_rolling")


class LocalTask(Struct, frozen=True):
    """A task whose data are here; `config` is what lm-eval reads, its files' places made absolute."""

    name: str
    path: Path
    config: dict[str, Any]
    files: tuple[Path, ...]


def need_lm_eval() -> None:
    """Raise `ResourceError` where lm-eval is not installed."""
    if find_spec("lm_eval") is None:
        raise ResourceError("Tasks of lm-eval need it installed, and it is not.", f"Run: pip install '{LM_EVAL}'")


def find_tasks(names: list[str], root: Path) -> list[LocalTask]:
    """Return the tasks in YAML files and folders, relative to `root`.

    Raises `ConfigError` for what is no task or needs a hub: nothing is downloaded.
    """
    if not names:
        return []
    need_lm_eval()
    found: list[LocalTask] = []
    for name in names:
        place = root / Path(name).expanduser()
        files = sorted(place.glob("*.yaml")) if place.is_dir() else [place]
        if not place.exists() or not files:
            what = "holds no .yaml file" if place.is_dir() else "does not exist"
            raise ConfigError(f"{place}, named in [evaluate.general] tasks, {what}.", "Name a YAML file or a folder.")
        found += [task for task in map(read_task, files) if task is not None]
    names = [task.name for task in found]
    twice = sorted({task for task in names if names.count(task) > 1})
    if twice:
        raise ConfigError(f"Two files in [evaluate.general] tasks are called {twice[0]!r}.", "Rename one of them.")
    if not found:
        raise ConfigError("The files in [evaluate.general] tasks hold no task.", "A task has a line `task: NAME`.")
    return found


def read_task(path: Path) -> LocalTask | None:
    """Return the task of a YAML file, None for one that others include; raises `ConfigError`."""
    from lm_eval.tasks._yaml_loader import load_yaml

    try:
        config = dict(load_yaml(path, resolve_func=True))
    except Exception as error:  # YAML's errors, and whatever a function named in the file raises
        raise ConfigError(
            f"{path} cannot be read as a task of lm-eval: {error}.", "Try it in lm-eval itself."
        ) from error
    name = config.get("task")
    if not isinstance(name, str):
        if isinstance(name, list) or "group" in config:
            raise ConfigError(f"{path} is a group of tasks.", "Name its tasks one by one in [evaluate.general] tasks.")
        return None
    kind = config.get("output_type", "generate_until")
    if kind not in SUPPORTED:
        raise ConfigError(f"The task {name} in {path} has output_type {kind!r}.", f"Supported: {', '.join(SUPPORTED)}.")
    asks = [each.get("metric") for each in config.get("metric_list") or () if each.get("hf_evaluate")]
    if asks:
        raise ConfigError(
            f"The task {name} in {path} takes its metric {asks[0]!r} from a hub (hf_evaluate), and nothing is "
            "downloaded here.",
            "Use a metric of lm-eval or a !function.",
        )
    files = _local_files(config, name, path)
    return LocalTask(name, path, config, (path, *files))


def _local_files(config: dict[str, Any], name: str, path: Path) -> tuple[Path, ...]:
    """Return the task's data files and make their places absolute."""
    if callable(config.get("custom_dataset")):
        return tuple(sorted(each for each in path.parent.iterdir() if each.is_file() and each != path))
    dataset, options = config.get("dataset_path"), dict(config.get("dataset_kwargs") or {})
    given = options.get("data_files")
    if dataset not in LOCAL or not given:
        raise ConfigError(
            f"The task {name} in {path} takes its data from {dataset!r}, which is no file here, and nothing is "
            "downloaded.",
            "Save the data as a file: dataset_path: json, dataset_kwargs: {data_files: {test: FILE.jsonl}}.",
        )
    splits = given if isinstance(given, dict) else {"train": given}
    placed = {key: [str(_place(each, name, path)) for each in _listed(value)] for key, value in splits.items()}
    config["dataset_kwargs"] = options | {"data_files": placed}
    return tuple(Path(each) for files in placed.values() for each in files)


def _listed(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [str(value)]


def _place(file: str, name: str, path: Path) -> Path:
    """Return where a data file is: beside the YAML file, or where lm-eval itself would look for it."""
    for place in (path.parent / file, Path(file)):
        if place.is_file():
            return place.absolute()
    raise DataError(f"The task {name} in {path} reads {file}, which is neither beside it nor in the current folder.")
