"""Synthetic support dialogues with planted faults, and the list of what was planted."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.data.planted import plant_card, plant_email, plant_iban, plant_phone

SUBJECTS = ("kettle", "grinder", "carafe", "toaster", "blender", "heater", "lamp", "desk", "chair", "router", "phone")
FAULTS = ("leaks", "rattles", "stopped working", "arrived broken", "smells burnt", "has no power", "lost its lid")
WISHES = ("a refund", "a replacement", "a spare part", "an invoice", "a call back", "a new label", "a repair")
SYLLABLES = ("ba", "ke", "li", "mo", "nu", "pra", "ste", "vo", "zi", "dra", "fle", "gri", "hon", "jal", "kur", "men")
OPENINGS = ("Hello,", "Hi there,", "Good morning,", "Hey,", "Excuse me,", "Dear team,")
ANSWERS = (
    "I am sorry that your {subject} {fault}. We will arrange {wish} for {name} within {days} days.",
    "Thank you for writing. For a {subject} that {fault}, {wish} is possible; {name} from our {team} team takes care.",
    "That should not happen to a {subject}. Please send a photo to the {team} desk and {wish} follows in {days} days.",
)
FAULT_SHARE = 0.02
EDITED_SHARE = 0.02


@dataclass
class Planted:
    """What is wrong with the rows of a file, by line number from 1."""

    near_duplicates: list[tuple[int, int]] = field(default_factory=list)
    personal: dict[int, list[tuple[str, str]]] = field(default_factory=dict)
    broken: list[int] = field(default_factory=list)
    rows: int = 0


def write_dialogues(
    path: Path, count: int, seed: int = 0, *, faults: bool = True, edited_share: float = EDITED_SHARE
) -> Planted:
    """Write `count` rows as OpenAI chat JSON Lines, a share of them faulty, and return what was planted.

    `edited_share` of a near-duplicate's words are others than its original's.
    """
    rng = random.Random(seed)
    planted = Planted(rows=count)
    kept: list[tuple[int, list[str]]] = []
    with open(path, "w", encoding="utf-8") as file:
        for number in range(1, count + 1):
            draw = rng.random() if faults else 1.0
            if draw < FAULT_SHARE and kept:
                original, turns = kept[rng.randrange(len(kept))]
                planted.near_duplicates.append((original, number))
                file.write(_line(_edited(rng, turns, edited_share), number))
            elif draw < 2 * FAULT_SHARE:
                turns = list(_turns(rng))
                sentence, kind, value = _personal(rng)
                turns[0] += " " + sentence
                planted.personal[number] = [(kind, value)]
                file.write(_line(turns, number))
            elif draw < 2.25 * FAULT_SHARE:
                planted.broken.append(number)
                file.write(_broken(rng, _line(list(_turns(rng)), number)))
            else:
                turns = list(_turns(rng))
                if len(kept) < 20_000:
                    kept.append((number, turns))
                file.write(_line(turns, number))
    return planted


def _turns(rng: random.Random) -> Iterator[str]:
    subject, fault, wish = rng.choice(SUBJECTS), rng.choice(FAULTS), rng.choice(WISHES)
    for turn in range(rng.choice((1, 1, 2, 2, 3))):
        details = " ".join(_word(rng) for _ in range(rng.randint(6, 14)))
        opening = rng.choice(OPENINGS) if turn == 0 else "And then"
        yield f"{opening} my {subject} {fault} since the {_word(rng)} {details}. Can I have {wish}?"
        answer = rng.choice(ANSWERS).format(
            subject=subject, fault=fault, wish=wish, name=_word(rng).title(), days=rng.randint(2, 9), team=_word(rng)
        )
        yield answer + " " + " ".join(_word(rng) for _ in range(rng.randint(4, 10))) + "."


def _word(rng: random.Random) -> str:
    return "".join(rng.choice(SYLLABLES) for _ in range(rng.randint(2, 3)))


def _edited(rng: random.Random, turns: list[str], share: float) -> list[str]:
    """Return the turns with that share of their words changed, one at least, and case and commas played with."""
    words = [turn.split() for turn in turns]
    places = [(turn, place) for turn, row in enumerate(words) for place in range(len(row))]
    for turn, place in rng.sample(places, max(1, round(share * len(places)))):
        words[turn][place] = _word(rng)
    for row in words:
        if rng.random() < 0.3:
            row[:] = [word.upper() if rng.random() < 0.1 else word for word in row]
    return [" ".join(row).replace(",", rng.choice(("", ","))) for row in words]


def _personal(rng: random.Random) -> tuple[str, str, str]:
    kind, plant = rng.choice(
        (("email", plant_email), ("phone", plant_phone), ("card", plant_card), ("iban", plant_iban))
    )
    sentence, value = plant(rng)
    return sentence, kind, value


def _broken(rng: random.Random, line: str) -> str:
    return rng.choice((line[: len(line) // 2] + "\n", line.replace('"messages"', '"massages"'), '{"messages": 7}\n'))


def _line(turns: list[str], number: int) -> str:
    messages = [
        {"role": "user" if place % 2 == 0 else "assistant", "content": turn} for place, turn in enumerate(turns)
    ]
    return json.dumps({"messages": messages, "ticket": number}) + "\n"
