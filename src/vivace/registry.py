"""Find a part by name: ours and other people's through the same door."""

import difflib
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from vivace.errors import ConfigError


def nearest(name: str, names: list[str]) -> str:
    """Return the sentence that names the closest valid word, or lists them all."""
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"Did you mean {close[0]!r}?"
    return "Valid: " + ", ".join(sorted(names)) + "."


class Registry:
    """A table from names to `module:attribute`, extended by the entry point group `vivace.<kind>`."""

    def __init__(self, kind: str, parts: Mapping[str, str]) -> None:
        self.kind = kind
        self._builtin = dict(parts)

    def names(self) -> list[str]:
        """Return every known name, built-in ones first."""
        return list(self._table)

    def load(self, name: str) -> Any:
        """Import and return the part called `name`; raises `ConfigError` with the nearest name."""
        table = self._table
        if name not in table:
            raise ConfigError(f"There is no {self.kind} {name!r}.", nearest(name, list(table)))
        return table[name]()

    @cached_property
    def _table(self) -> dict[str, Callable[[], Any]]:
        """Every part's loader; looking at all packages' entry points takes milliseconds, and none comes later."""
        table: dict[str, Callable[[], Any]] = {name: _loader(target) for name, target in self._builtin.items()}
        for entry in entry_points(group=f"vivace.{self.kind}"):
            table.setdefault(entry.name, entry.load)
        return table


def _loader(target: str) -> Callable[[], Any]:
    module, _, attribute = target.partition(":")
    return lambda: getattr(import_module(module), attribute)
