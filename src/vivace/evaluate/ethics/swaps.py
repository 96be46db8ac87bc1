"""Counterfactual conversations: the same but for who is spoken of, names and words swapped all through.

The idea: Kusner et al. 2017 ("Counterfactual Fairness"), Garg et al. 2019 for texts.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Struct

from vivace.domain import Example, Message
from vivace.evaluate.ethics.groups import Dimension, Entry, Group, words_of

# After "her" and "his" these tell that no noun follows: "I told her about it", "this is his and mine".
_OTHERS = """
a about after again all an and any are as asap at because been before but by did do does for from had has have he her
here him how i if in into is it its just me my no not now of off on once or our out over please she since so some soon
that the their them then there these they this those though to today tomorrow too under until up us very was we were
what when where which while who why will with would yesterday yet you your
"""
_NO_NOUN = frozenset(_OTHERS.split())
_NEXT_WORD = re.compile(r"\s+([^\W\d_]+)")


class Version(Struct, frozen=True):
    """A conversation of which one group is spoken; `introduced` where the customer said so in words of ours."""

    example: str
    dimension: str
    group: str
    messages: tuple[Message, ...]
    reference: str
    introduced: bool = False
    tools: tuple[dict[str, Any], ...] = ()

    @property
    def id(self) -> str:
        """What it goes by among all that is asked."""
        return f"swap/{self.dimension}/{self.group}/{self.example}"


class Swapped(Struct, frozen=True):
    """All versions of a dimension, and how many conversations had none because they mention several groups."""

    versions: tuple[Version, ...]
    mention: int
    introduced: int
    several: int


def swap_examples(examples: Sequence[Example], dimension: Dimension, *, at_most: int, introduce: bool) -> Swapped:
    """Return a version for every group of at most so many examples; those that mention a group come first.

    The choice depends on the examples' ids alone. A conversation that mentions several groups of the dimension has no
    version: it does not tell whom it is about.
    """
    ordered = sorted(examples, key=lambda each: hashlib.sha256(each.id.encode()).digest())
    told = [(example, mentioned(_texts(example), dimension)) for example in ordered]
    about = [(example, found[0]) for example, found in told if len(found) == 1][:at_most]
    silent = [example for example, found in told if not found] if introduce and dimension.introduction else []
    silent = silent[: at_most - len(about)]
    versions = [version for example, group in about for version in _swapped(example, dimension, group)]
    versions += [
        version for number, example in enumerate(silent) for version in _introduced(example, dimension, number)
    ]
    return Swapped(tuple(versions), len(about), len(silent), sum(len(found) > 1 for _example, found in told))


def mentioned(texts: Sequence[str], dimension: Dimension) -> list[str]:
    """Return the groups that the texts mention."""
    said = words_of(" ".join(texts))
    possible = [name for name, words in dimension.first_words.items() if not said.isdisjoint(words)]
    if not possible:
        return []
    plain = [_unprotected(text, dimension) for text in texts]
    return [name for name in possible if any(map(dimension.patterns[name].search, plain))]


def swap_text(text: str, dimension: Dimension, start: str, end: str) -> str:
    """Return a text in which every mention of the group `start` became one of the group `end`."""
    if start == end:
        return text
    kept = [] if dimension.protected_pattern is None else list(dimension.protected_pattern.finditer(text))

    def replaced(match: re.Match[str]) -> str:
        if any(each.start() < match.end() and match.start() < each.end() for each in kept):
            return match[0]
        return _counterpart(match, dimension, start, end)

    return dimension.with_last_names[start].sub(replaced, text)


def _swapped(example: Example, dimension: Dimension, start: str) -> list[Version]:
    versions = []
    for end in dimension.groups:
        turns = [_swap_message(message, dimension, start, end) for message in example.messages]
        reference = turns.pop().content
        versions.append(Version(example.id, dimension.name, end, tuple(turns), reference, tools=example.tools))
    return versions


def _introduced(example: Example, dimension: Dimension, number: int) -> list[Version]:
    """Let the customer's first turn begin with who they are."""
    place = next((at for at, turn in enumerate(example.prompt) if turn.role == "user"), None)
    if place is None:
        return []
    versions = []
    for name, group in dimension.groups.items():
        turns = list(example.prompt)
        told = _introduction(dimension, group, number)
        turns[place] = msgspec.structs.replace(turns[place], content=f"{told} {turns[place].content}".strip())
        versions.append(Version(example.id, dimension.name, name, tuple(turns), example.reference, True, example.tools))
    return versions


def _introduction(dimension: Dimension, group: Group, number: int) -> str:
    names = group.names or group.introduce or group.words
    words = group.introduce or group.words or group.names
    return dimension.introduction.replace("{name}", names[number % len(names)]).replace(
        "{word}", words[number % len(words)]
    )


def _swap_message(message: Message, dimension: Dimension, start: str, end: str) -> Message:
    calls = tuple(
        msgspec.structs.replace(
            call,
            function=msgspec.structs.replace(
                call.function, arguments=swap_text(call.function.arguments, dimension, start, end)
            ),
        )
        for call in message.tool_calls
    )
    return msgspec.structs.replace(message, content=swap_text(message.content, dimension, start, end), tool_calls=calls)


def _counterpart(match: re.Match[str], dimension: Dimension, start: str, end: str) -> str:
    lexicon, group, said = dimension.lexicon[start], dimension.groups[end], match[0]
    entry: Entry = lexicon.get(said) or lexicon[said.lower()]
    if entry.kind == "pronoun":
        return _in_case(_pronoun(match, dimension, start, end), said)
    if entry.kind == "word":
        return _in_case(group.words[entry.place], said) if group.words else said
    if not group.names:
        return said
    name = group.names[entry.place % len(group.names)]
    first, _space, last = name.partition(" ")
    return {"first": first, "last": last or name}.get(entry.part, name)


def _pronoun(match: re.Match[str], dimension: Dimension, start: str, end: str) -> str:
    """Return the other group's pronoun in the same case; the word after it tells which that is."""
    ours, theirs, said = dimension.groups[start].pronouns, dimension.groups[end].pronouns, match[0].lower()
    if ours is None or theirs is None:
        return match[0]
    after = _NEXT_WORD.match(match.string, match.end())
    noun = after is not None and after[1].lower() not in _NO_NOUN
    if said == ours.possessive and (noun or said not in (ours.object, ours.absolute)):
        return theirs.possessive
    return theirs.object if said == ours.object else theirs.absolute


def _in_case(word: str, like: str) -> str:
    """Return a word in the letters of the one that it stands for."""
    if like.isupper() and len(like) > 1:
        return word.upper()
    return word[0].upper() + word[1:] if like[0].isupper() else word


def _unprotected(text: str, dimension: Dimension) -> str:
    pattern = dimension.protected_pattern
    return text if pattern is None else pattern.sub("\u2026", text)


def _texts(example: Example) -> list[str]:
    return [message.content for message in example.messages]
