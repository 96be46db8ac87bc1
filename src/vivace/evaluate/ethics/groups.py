"""Groups of people, and the names and words that mention them: a list of ours, and the user's own laid over it."""

import re
import tomllib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.errors import ConfigError
from vivace.registry import nearest

_LETTERS = re.compile(r"[^\W\d_]+")
BUILT_IN = Path(__file__).with_name("groups.toml")


class Pronouns(Struct, frozen=True, forbid_unknown_fields=True):
    """Pronouns of which one form may be two: "her" is the object and the possessive."""

    object: str
    possessive: str
    absolute: str


class Group(Struct, frozen=True, forbid_unknown_fields=True):
    """One group: names, words in the order of the other groups' words, and what one says of oneself."""

    names: tuple[str, ...] = ()
    words: tuple[str, ...] = ()
    introduce: tuple[str, ...] = ()
    pronouns: Pronouns | None = None


class Dimension(Struct, frozen=True, dict=True):
    """What groups differ in; the others are compared with the first. `introduction` holds {name} or {word}."""

    name: str
    groups: dict[str, Group]
    introduction: str = ""
    protected: tuple[str, ...] = ()

    @property
    def first(self) -> str:
        """The group that the others are compared with."""
        return next(iter(self.groups))

    @property
    def others(self) -> tuple[str, ...]:
        """All groups but the first."""
        return tuple(self.groups)[1:]

    @cached_property
    def lexicon(self) -> dict[str, dict[str, "Entry"]]:
        """Per group, the mentions as its lists write them, and where they stand there."""
        return {name: _entries(group) for name, group in self.groups.items()}

    @cached_property
    def patterns(self) -> dict[str, re.Pattern[str]]:
        """Per group, what tells that it is mentioned."""
        return {name: _pattern(group, lasts=False) for name, group in self.groups.items()}

    @cached_property
    def with_last_names(self) -> dict[str, re.Pattern[str]]:
        """Per group, what finds everything to swap once it is mentioned."""
        return {name: _pattern(group, lasts=True) for name, group in self.groups.items()}

    @cached_property
    def first_words(self) -> dict[str, frozenset[str]]:
        """Per group, the words of which a text with a mention has one, in small letters: the cheapest test."""
        return {name: frozenset(words_of(" ".join(entries))) for name, entries in self.lexicon.items()}

    @cached_property
    def protected_pattern(self) -> re.Pattern[str] | None:
        """What finds phrases in which a word means something else."""
        if not self.protected:
            return None
        return re.compile(rf"\b(?:{'|'.join(map(re.escape, self.protected))})\b", re.IGNORECASE)


class Entry(Struct, frozen=True):
    """Where a mention stands in its group's lists; `part` is that of a name that was mentioned alone."""

    kind: str
    place: int
    part: str = "all"


class _Table(Struct, frozen=True, forbid_unknown_fields=True):
    groups: dict[str, Group]
    introduction: str = ""


def words_of(text: str) -> set[str]:
    """Return the runs of letters in a text, in small letters."""
    return set(_LETTERS.findall(text.lower()))


def read_dimensions(wanted: Sequence[str], file: Path | None = None) -> list[Dimension]:
    """Return the wanted dimensions; the user's file adds to ours, dimension by dimension and group by group.

    Raises `ConfigError` for a file that is none of this shape and for a dimension that nobody defines.
    """
    tables, protected = _read(BUILT_IN)
    if file is not None:
        own, more = _read(file)
        tables = {name: _merged(tables.get(name), own.get(name)) for name in {**tables, **own}}
        protected = (*protected, *more)
    found = []
    for name in wanted:
        if name not in tables:
            raise ConfigError(
                f"[evaluate.ethics] dimensions names {name!r}, which no list of groups defines.",
                nearest(name, list(tables)),
            )
        found.append(_dimension(name, tables[name], protected, file))
    return found


def _read(path: Path) -> tuple[dict[str, _Table], tuple[str, ...]]:
    try:
        values: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        protected = msgspec.convert(values.pop("protected", []), type=tuple[str, ...])
        return {name: msgspec.convert(table, type=_Table) for name, table in values.items()}, protected
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.", "It is groups in [evaluate.ethics].") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise ConfigError(
            f"{path} is no list of groups: {error}.",
            'Such as: [gender.groups.female] and under it names = ["Emily"], words = ["she"].',
        ) from error


def _merged(ours: _Table | None, theirs: _Table | None) -> _Table:
    if ours is None or theirs is None:
        table = ours or theirs
        assert table is not None
        return table
    groups = dict(ours.groups)
    for name, more in theirs.groups.items():
        known = groups.get(name, Group())
        groups[name] = Group(
            (*known.names, *more.names),
            (*known.words, *more.words),
            (*known.introduce, *more.introduce),
            more.pronouns or known.pronouns,
        )
    return _Table(groups, theirs.introduction or ours.introduction)


def _dimension(name: str, table: _Table, protected: tuple[str, ...], file: Path | None) -> Dimension:
    """Return a dimension after checks that only the whole of it allows."""
    where = f"The dimension {name!r}" + (f" with {file}" if file else "")
    if len(table.groups) < 2:
        raise ConfigError(f"{where} has {len(table.groups)} group; a comparison needs two.")
    counts = {group: len(each.words) for group, each in table.groups.items() if each.words}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{group} {count}" for group, count in counts.items())
        raise ConfigError(
            f"{where} has groups with different numbers of words ({told}).",
            "The words of all groups stand in the same order: the third of one is swapped for the third of another.",
        )
    for group, each in table.groups.items():
        if not (each.names or each.words):
            raise ConfigError(f"{where} has a group {group!r} without names and words.")
    return Dimension(name, table.groups, table.introduction, protected)


def _entries(group: Group) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for place, word in enumerate(group.words):
        entries.setdefault(word, Entry("word", place))
    for word in msgspec.structs.astuple(group.pronouns) if group.pronouns else ():
        entries.setdefault(word, Entry("pronoun", 0))
    for place, name in enumerate(group.names):
        entries.setdefault(name, Entry("name", place))
        first, _space, last = name.partition(" ")
        if last:
            entries.setdefault(first, Entry("name", place, "first"))
            entries.setdefault(last, Entry("name", place, "last"))
    return entries


def _pattern(group: Group, *, lasts: bool) -> re.Pattern[str]:
    lax: list[str] = []
    strict: list[str] = []
    for text, entry in _entries(group).items():
        if lasts or entry.part != "last":
            (lax if entry.kind != "name" and text == text.lower() else strict).append(text)
    parts = [f"(?i:{_either(lax)})"] * bool(lax) + [_either(strict)] * bool(strict)
    return re.compile(rf"(?<![\w@.-])(?:{'|'.join(parts)})(?![\w@-])(?!\.\w)")


def _either(texts: Sequence[str]) -> str:
    return "|".join(re.escape(text) for text in sorted(texts, key=len, reverse=True))
