"""Fill in `{{ item.… }}` and `{{ sample.… }}`: names and places only, nothing is ever executed."""

import json
import re
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from vivace.errors import ConfigError, DataError
from vivace.evaluate.graders.case import Case
from vivace.registry import nearest

ROOTS = ("item", "sample")
_SAMPLE = ("output_text", "output_json", "output_tools", "finish_reason")
_HOLE = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_STEP = re.compile(r"\.\s*([A-Za-z_][\w-]*)|\[\s*(-?\d+)\s*\]|\[\s*(['\"])(.*?)\3\s*\]")
_ROOT = re.compile(r"\s*([A-Za-z_]\w*)\s*")

Path = tuple[str | int, ...]


class NotSaid(Exception):
    """The answer does not have what a template asks of it: that is the answer's fault, and costs it the grade."""


class Template(Struct, frozen=True):
    """A text with holes: pieces of text, and paths such as ("item", "reference")."""

    pieces: tuple[str | Path, ...]
    where: str

    def fill(self, case: Case) -> str:
        """Return the text for a case; raises `DataError` for a name that the item lacks, `NotSaid` for the sample's."""
        return "".join(piece if isinstance(piece, str) else self._value(piece, case) for piece in self.pieces)

    @property
    def paths(self) -> list[Path]:
        """What the holes name."""
        return [piece for piece in self.pieces if not isinstance(piece, str)]

    def _value(self, path: Path, case: Case) -> str:
        value: Any = {"item": case.item, "sample": case.sample}
        for place, step in enumerate(path):
            try:
                value = _step(value, step)
            except (KeyError, IndexError, TypeError):
                shown = _shown(path[: place + 1])
                if path[0] == "sample":
                    raise NotSaid(f"The answer to example {case.id!r} has no {shown}.") from None
                hint = nearest(str(step), sorted(map(str, value))) if isinstance(value, dict) else ""
                raise DataError(f"{self.where} asks for {shown}, and example {case.id!r} has none.", hint) from None
        return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def parse_template(text: str, where: str) -> Template:
    """Return the template; raises `ConfigError` for a hole that is anything else than a path."""
    pieces: list[str | Path] = []
    done = 0
    for hole in _HOLE.finditer(text):
        pieces += [text[done : hole.start()], _path(hole[1], where)]
        done = hole.end()
    pieces.append(text[done:])
    rest = "".join(piece for piece in pieces if isinstance(piece, str))
    for mark in ("{%", "{#", "{{"):
        if mark in rest:
            raise ConfigError(
                f"{where} holds {mark!r}, and only {{{{ item.… }}}} and {{{{ sample.… }}}} are filled in."
            )
    return Template(tuple(piece for piece in pieces if piece != ""), where)


def _path(text: str, where: str) -> Path:
    shown = "{{" + text + "}}"
    root = _ROOT.match(text)
    if root is None:
        raise ConfigError(f"{where} holds {shown}, which names nothing.", "Write {{ item.reference }}, for example.")
    if root[1] not in ROOTS:
        raise ConfigError(f"{where} holds {shown}, and there is no {root[1]!r}.", nearest(root[1], list(ROOTS)))
    path: Path = (root[1], *_steps(text[root.end() :], shown, where))
    if path[0] == "sample" and len(path) > 1 and path[1] not in _SAMPLE:
        raise ConfigError(
            f"{where} holds {shown}, and a sample has no {path[1]!r}.", nearest(str(path[1]), list(_SAMPLE))
        )
    return path


def _steps(text: str, shown: str, where: str) -> Iterator[str | int]:
    rest = text.strip()
    while rest:
        step = _STEP.match(rest)
        if step is None:
            raise ConfigError(
                f"{where} holds {shown}, which is more than a name.",
                "Dots and [0] lead from one name to the next; nothing is computed.",
            )
        yield int(step[2]) if step[2] else step[1] or step[4]
        rest = rest[step.end() :].lstrip()


def _step(value: Any, step: str | int) -> Any:
    if isinstance(step, int) and not isinstance(value, list):
        raise TypeError
    if isinstance(step, str) and not isinstance(value, dict):
        raise TypeError
    return value[step]


def _shown(path: Path) -> str:
    return str(path[0]) + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path[1:])
