"""The user's own metric: a function in a file of the project."""

import hashlib
import importlib.util
import math
import numbers
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from msgspec import Struct

from vivace.errors import ConfigError
from vivace.evaluate.graders.case import Case, Grade
from vivace.registry import nearest

Function = Callable[[str, str, dict[str, Any]], Any]


class OwnMetric(Struct, frozen=True):
    """A function(answer, reference, example) of the project; `sha256` is that of its file."""

    name: str
    place: str
    sha256: str
    function: Function


def own_digests(own: Sequence[str], root: Path) -> dict[str, str]:
    """Return the hash of each file that functions come from, by its path as written; nothing is imported."""
    return {path: hashlib.sha256(_file(place, path, root).read_bytes()).hexdigest() for place, path, _ in _split(own)}


def read_own(own: Sequence[str], root: Path) -> list[OwnMetric]:
    """Import the functions that `own` names as "file.py:function"; raises `ConfigError` where that cannot be."""
    found = []
    modules: dict[str, Any] = {}
    for place, path, name in _split(own):
        file = _file(place, path, root)
        if path not in modules:
            modules[path] = _imported(file, path)
        function = getattr(modules[path], name, None)
        if not callable(function):
            defined = sorted(key for key, value in vars(modules[path]).items() if callable(value) and key[0] != "_")
            raise ConfigError(
                f"evaluate.own: {path} has no function {name!r}.", nearest(name, defined) if defined else ""
            )
        found.append(OwnMetric(name, place, hashlib.sha256(file.read_bytes()).hexdigest(), function))
    return found


def own_grades(metric: OwnMetric, cases: Sequence[Case]) -> list[Grade]:
    """Return what the function says of each answer; a failed answer scores 0 without being shown."""
    return [0.0 if case.failed else _grade(metric, case) for case in cases]


def _grade(metric: OwnMetric, case: Case) -> Grade:
    try:
        value = metric.function(case.sample["output_text"], case.item["reference"], dict(case.item))
    except (Exception, SystemExit) as error:
        line = _line(error, metric)
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return f"{metric.place}{line} failed on example {case.id!r}: {said[:200]}."
    return number_of(value, f"{metric.place} on example {case.id!r}")


def number_of(value: Any, who: str) -> Grade:
    """Return a value as the number that it is, or the sentence that says that it is none."""
    if isinstance(value, numbers.Real) or hasattr(value, "__float__"):
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            return f"{who} gave a {type(value).__name__}, which is no number."
        return number if math.isfinite(number) else f"{who} gave {number}, which is not finite."
    return f"{who} gave {str(value)[:40]!r}, a {type(value).__name__}; wanted is a number or True or False."


def _split(own: Sequence[str]) -> list[tuple[str, str, str]]:
    parts = []
    for place in own:
        path, colon, name = place.rpartition(":")
        if not colon or not path or not name.isidentifier():
            raise ConfigError(
                f"evaluate.own: {place!r} is no file and function.", "Write such as metrics.py:politeness."
            )
        parts.append((place, path, name))
    names = [name for _, _, name in parts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise ConfigError(f"evaluate.own: two functions are called {twice!r}.", "Give one another name.")
    return parts


def _file(place: str, path: str, root: Path) -> Path:
    file = (root / path).resolve()
    if not file.is_relative_to(root.resolve()):
        raise ConfigError(
            f"evaluate.own: {place!r} lies outside the project's folder {root}.", "Copy the file into it."
        )
    if not file.is_file():
        near = sorted(each.name for each in file.parent.glob("*.py")) if file.parent.is_dir() else []
        raise ConfigError(
            f"evaluate.own: there is no file {path!r} in {root}.", nearest(file.name, near) if near else ""
        )
    return file


def _imported(file: Path, path: str) -> Any:
    spec = importlib.util.spec_from_file_location(
        f"_vivace_own_{hashlib.sha256(str(file).encode()).hexdigest()[:12]}", file
    )
    if spec is None or spec.loader is None:
        raise ConfigError(f"evaluate.own: {path!r} is no Python file.", "Its name must end in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # as dataclasses want it
    folder = str(file.parent)
    sys.path.insert(0, folder)  # what lies beside the file can be imported by it
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        place = getattr(error, "lineno", None)
        line = f", line {place}" if place else ""
        raise ConfigError(f"evaluate.own: {path}{line} cannot be imported: {type(error).__name__}: {error}.") from None
    finally:
        sys.path.remove(folder)
    return module


def _line(error: BaseException, metric: OwnMetric) -> str:
    """Return the line of the user's own file where an error came from."""
    file = getattr(getattr(metric.function, "__code__", None), "co_filename", None)
    found, trace = "", error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            found = f" (line {trace.tb_lineno})"
        trace = trace.tb_next
    return found
