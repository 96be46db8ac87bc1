"""What people thought of answers: rated one by one, or compared in pairs."""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Struct

from vivace.domain import Example, Message
from vivace.text import normalize_words

Side = Literal["first", "second", "tie"]

GOOD = 0.5  # a dataset's ratings are 1 good, 0 bad
FEWEST_OPENING_WORDS = 4  # "hi" opens unrelated conversations, too


class Rated(Struct, frozen=True):
    """One answer that somebody found good or bad; `group` joins rows that are no independent evidence."""

    id: str
    prompt: tuple[Message, ...]
    answer: str
    good: bool
    group: str = ""
    stratum: str = ""


class Compared(Struct, frozen=True):
    """Two answers to one prompt, and which of them somebody preferred."""

    id: str
    prompt: tuple[Message, ...]
    first: str
    second: str
    preferred: Side
    group: str = ""


class Opinions(Struct, frozen=True):
    """Ratings and comparisons, each answer or pair once, and what was left out and why."""

    rated: tuple[Rated, ...] = ()
    compared: tuple[Compared, ...] = ()
    left_out: dict[str, int] = {}


NO_ANSWER = "the answer is empty"
UNDECIDED = "as many think well of it as think badly"
SAME = "both answers are the same"
SEVERAL = "not one answer against one answer"
TOO_MANY = "more than max_ratings or max_pairs"


class Row(Struct, frozen=True):
    """One opinion as it was read, before opinions on the same answer or pair are put together.

    `other` is the answer it was compared with, `lean` 1 where `answer` was preferred or rated good, -1 where not.
    """

    prompt: tuple[Message, ...]
    answer: str
    lean: float
    other: str | None = None
    conversation: str = ""
    stratum: str = ""


def from_examples(examples: Iterable[Example], within: str = "") -> tuple[list[Row], int]:
    """Return the opinions in a dataset's preferences, and how many rows hold several answers or none."""
    rows, unfit = [], 0
    for example in examples:
        meta = example.metadata
        talk, stratum = str(meta.get("conversation_id") or ""), str(meta.get(within, "")) if within else ""
        if not example.messages or example.messages[-1].role != "assistant" or len(example.rejected) > 1:
            unfit += 1
            continue
        answer = spoken(example.messages[-1])
        if example.rejected:
            rows.append(Row(example.prompt, answer, 1.0, spoken(example.rejected[0]), talk, stratum))
        if example.rating is not None:
            rows.append(Row(example.prompt, answer, 1.0 if example.rating >= GOOD else -1.0, None, talk, stratum))
    return rows, unfit


def gather(rows: Sequence[Row], max_rated: int, max_compared: int, *, unfit: int = 0) -> Opinions:
    """Put opinions on the same answer or pair together and keep a sample that depends on the texts alone.

    Answers to one prompt of which people think differently are a comparison, too.
    """
    left_out: dict[str, int] = {SEVERAL: unfit} if unfit else {}
    groups = _groups(rows)
    answers: dict[str, list[tuple[int, Row]]] = {}
    pairs: dict[str, list[tuple[int, Row]]] = {}
    for place, row in enumerate(rows):
        reason = _unfit(row)
        if reason:
            left_out[reason] = left_out.get(reason, 0) + 1
        elif row.other is None:
            answers.setdefault(_key(row.prompt, row.answer), []).append((place, row))
        else:
            pairs.setdefault(_key(row.prompt, *sorted((row.answer, row.other))), []).append((place, row))
    rated = []
    for key, opinions in answers.items():
        lean = sum(row.lean for _, row in opinions)
        place, row = opinions[0]
        if lean == 0:
            left_out[UNDECIDED] = left_out.get(UNDECIDED, 0) + len(opinions)
        else:
            rated.append(Rated(key, row.prompt, row.answer, lean > 0, groups[place], row.stratum))
    compared = [_compared(key, opinions, groups) for key, opinions in pairs.items()]
    known = {each.id for each in compared}
    compared += [each for each in _opposites(rated) if each.id not in known]
    spare = max(0, len(rated) - max_rated) + max(0, len(compared) - max_compared)
    if spare:
        left_out[TOO_MANY] = spare
    # An id is a hash: the first ones in its order are a sample by chance, and the same one each time.
    return Opinions(
        tuple(sorted(rated, key=lambda each: each.id)[:max_rated]),
        tuple(sorted(compared, key=lambda each: each.id)[:max_compared]),
        left_out,
    )


def spoken(message: Message) -> str:
    """Return what a turn says, calls of tools included."""
    calls = [f"[calls {call.function.name} with {call.function.arguments}]" for call in message.tool_calls]
    return "\n".join(part for part in (message.content.strip(), *calls) if part)


def _unfit(row: Row) -> str:
    if not row.answer.strip() or (row.other is not None and not row.other.strip()):
        return NO_ANSWER
    return SAME if row.other is not None and row.answer.strip() == row.other.strip() else ""


def _compared(key: str, opinions: list[tuple[int, Row]], groups: Sequence[str]) -> Compared:
    place, row = opinions[0]
    assert row.other is not None
    # Which answer stands first must not tell which one was liked: the hash decides.
    first, second = sorted((row.answer, row.other), key=lambda text: _key(row.prompt, text))
    lean = sum(each.lean if each.answer == first else -each.lean for _, each in opinions)
    preferred: Side = "first" if lean > 0 else "second" if lean < 0 else "tie"
    return Compared(key, row.prompt, first, second, preferred, groups[place])


def _opposites(rated: Sequence[Rated]) -> list[Compared]:
    by_prompt: dict[str, tuple[list[Rated], list[Rated]]] = {}
    for each in rated:
        by_prompt.setdefault(_key(each.prompt), ([], []))[0 if each.good else 1].append(each)
    found = []
    for good, bad in by_prompt.values():
        for liked, other in zip(good, bad, strict=False):
            row = Row(liked.prompt, liked.answer, 1.0, other.answer)
            key = _key(liked.prompt, *sorted((liked.answer, other.answer)))
            found.append(_compared(key, [(0, row)], [liked.group]))
    return found


def _groups(rows: Sequence[Row]) -> list[str]:
    """Name for each row what it shares with others: the conversation, or a long enough first message of the user."""
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        while parent.setdefault(name, name) != name:
            name = parent[name]
        return name

    names = []
    for place, row in enumerate(rows):
        opening = next((turn.content for turn in row.prompt if turn.role == "user"), "")
        told = len(normalize_words(opening)) >= FEWEST_OPENING_WORDS
        own = "o" + _key((), opening) if told else f"p{_key(row.prompt)}" if row.prompt else f"r{place}"
        if row.conversation:
            parent[root("c" + row.conversation)] = root(own)
        names.append(own)
    return [root(name) for name in names]


def _key(prompt: Sequence[Message], *texts: str) -> str:
    told: Any = (prompt, [text.strip() for text in texts])
    return hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:16]
