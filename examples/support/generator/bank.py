"""Reads the phrase banks and expands their lines: [one|other] alternatives, {slots} and <tag> conditions."""

import random
import re
from dataclasses import dataclass, field
from pathlib import Path

BANKS = Path(__file__).resolve().parent / "banks"
_PLACE = {"country", "city"}
_PRODUCT = {"product", "item", "grinder"}
SOURCES = {
    **dict.fromkeys(("country", "ship_days", "ship_cost", "ship_free"), _PLACE),
    **dict.fromkeys(
        ("product", "price", "warranty", "repair", "restock", "alt_product", "altprice", "altpitch"), _PRODUCT
    ),
    "part": {"part"},
    "color": {"color"},
    "alt_color": {"color"},
    "months": {"months"},
    "points": {"points"},
    "pointvalue": {"points"},
    "beans2": {"beans2"},
    "beandesc2": {"beans2"},
    "beanprice2": {"beans2"},
    "giftvalue": {"giftvalue"},
    "brew": {"brew"},
    "grinder": {"grinder"},
    "recipe": {"brew"},
    "recipe2": {"brew2"},
    "brew2": {"brew2"},
    "code2": {"code2"},
    "emeaning2": {"code2"},
    "advice_alt": {"need"},
}
_CHOICE = re.compile(r"\[([^\[\]]*)\]")
_SLOT = re.compile(r"\{(\^?)(\w+)\}")
_GUARD = re.compile(r"^<([^>]+)> ")


@dataclass
class FollowUp:
    """One further question a customer asks, with separate wordings for training and test."""

    train: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)


@dataclass
class Intent:
    """Everything people write about one subject."""

    name: str
    upset: bool = False
    train: list[str] = field(default_factory=list)
    test: list[str] = field(default_factory=list)
    facts: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    nexts: list[str] = field(default_factory=list)
    focused: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)
    follow_ups: dict[str, FollowUp] = field(default_factory=dict)


def load() -> dict[str, Intent]:
    """Read every bank file, in name order, into intents."""
    intents: dict[str, Intent] = {}
    for path in sorted(BANKS.glob("*.txt")):
        _read(path.read_text(encoding="utf-8").splitlines(), intents)
    return intents


def _read(lines: list[str], intents: dict[str, Intent]) -> None:
    intent = Intent("")
    follow_up = FollowUp()
    for line in filter(None, lines):
        key, _, text = line.partition(" ")
        if key == "@@":
            intent = intents[text] = Intent(text)
        elif key == "mood":
            intent.upset = text == "sad"
        elif key == "f":
            follow_up = intent.follow_ups[text] = FollowUp()
        elif key in ("A", "B"):
            focus, _, answer = text.partition(" ")
            intent.focused.setdefault(focus, ([], []))[key == "B"].append(answer)
        else:
            target = {
                "o": intent.train,
                "t": intent.test,
                "a": intent.facts,
                "b": intent.steps,
                "c": intent.nexts,
                "q": follow_up.train,
                "u": follow_up.test,
                "r": follow_up.replies,
            }[key]
            target.append(text)


def matching(lines: list[str], tags: set[str]) -> list[str]:
    """Keep the lines whose condition holds for these tags, without the condition."""
    kept = []
    for line in lines:
        guard = _GUARD.match(line)
        needs = [need for need in guard.group(1).split(",") if need[0] != "+"] if guard else []
        if all((need[1:] not in tags) if need.startswith("!") else (need in tags) for need in needs):
            kept.append(line[guard.end() :] if guard else line)
    return kept


def focus(line: str) -> str:
    """The narrower subject an opening names with <+subject>, or nothing."""
    guard = _GUARD.match(line)
    return next((need[1:] for need in guard.group(1).split(",") if need[0] == "+"), "") if guard else ""


def mentions(line: str) -> set[str]:
    """The slots a line speaks of."""
    return {hit.group(2) for hit in _SLOT.finditer(line)}


def answerable(lines: list[str], said: set[str]) -> list[str]:
    """Keep the lines that rest only on what the customer said."""
    return [line for line in lines if all(said & SOURCES[slot] for slot in mentions(line) & set(SOURCES))]


def expand(line: str, slots: dict[str, str], rng: random.Random) -> str:
    """Fill the slots, then pick one of every group of alternatives."""
    text = _SLOT.sub(lambda hit: _value(hit, slots), line)
    while "[" in text:
        text = _CHOICE.sub(lambda hit: rng.choice(hit.group(1).split("|")), text)
    text = re.sub(r" +(?=[ .,;])", "", text)
    text = re.sub(r"\b([Aa])n? (?=Aria|E\d|8|unopened|accessor)", r"\1n ", text)
    text = re.sub(r"\b([Aa])n (?=Brio|Mola|Pallas|Tern|5|Moss|Slate|Cream|Copper)", r"\1 ", text)
    return re.sub(r"(^|[.?!:] )the (?=Netherlands|United)", r"\1The ", text)


def _value(hit: re.Match[str], slots: dict[str, str]) -> str:
    value = _SLOT.sub(lambda inner: _value(inner, slots), slots[hit.group(2)])
    return value[:1].upper() + value[1:] if hit.group(1) else value
