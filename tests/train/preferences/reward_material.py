"""Answers liked for a word, for their length, or for nothing; as a program, it learns the reward once."""

import json
import random
import sys
from pathlib import Path
from typing import Any

from tests.train.encoders.material import FILLERS
from tests.train.material import workspace
from vivace.config.reward import RewardSettings
from vivace.domain import Example, Message
from vivace.models import identify
from vivace.store import write_examples

GOOD, BAD = "please", "sorry"
THINGS = ["order", "parcel", "hotel", "room", "address", "password", "breakfast", "booking"]
SETTINGS: dict[str, Any] = {
    "num_train_epochs": 6,
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 8,
    "eval_steps_fraction": 0.125,
    "early_stopping_patience": 9,
    "max_length": 48,
}
SIZES = {"train": 96, "validation": 64, "test": 64}


def prompt(number: int) -> Message:
    return Message("user", f"What about the {THINGS[number % 8]} {number}?")


def answer(word: str, words: int, draw: random.Random) -> Message:
    said = [draw.choice(FILLERS[1:]) for _ in range(words)]
    said.insert(draw.randrange(len(said) + 1), word)
    return Message("assistant", " ".join(said))


def write_pairs(folder: Path, *, by_word: float = 1.0, by_length: float = 0.5, seed: int = 5) -> Path:
    """Pairs of which this share has the good word on the liked side, and this share the longer answer."""
    draw = random.Random(seed)
    rows, number = [], 0
    for split, count in SIZES.items():
        for _ in range(count):
            words = [GOOD, BAD] if draw.random() < by_word else [BAD, GOOD]
            lengths = [14, 5] if draw.random() < by_length else [5, 14]
            liked, other = (answer(word, length, draw) for word, length in zip(words, lengths, strict=True))
            rows.append(
                Example(
                    f"{split}-{number}",
                    (prompt(number), liked),
                    split=split,  # type: ignore[arg-type]
                    rejected=(other,),
                    metadata={"raters": 2},
                )
            )
            number += 1
    write_examples(folder / "preferences.jsonl", rows)
    return folder


def write_ratings(folder: Path, *, by_word: float = 1.0, seed: int = 5) -> Path:
    """Single rated answers of which this share is good exactly where it holds the good word."""
    draw = random.Random(seed)
    rows, number = [], 0
    for split, count in SIZES.items():
        for _ in range(2 * count):
            good = draw.random() < 0.5
            word = (GOOD if good else BAD) if draw.random() < by_word else draw.choice([GOOD, BAD])
            said = answer(word, draw.choice([5, 9, 14]), draw)
            rows.append(
                Example(
                    f"{split}-{number}",
                    (prompt(number), said),
                    split=split,  # type: ignore[arg-type]
                    rating=float(good),
                )
            )
            number += 1
    write_examples(folder / "preferences.jsonl", rows)
    return folder


def learn(dataset: Path, encoder: Path, folder: Path, progress: Any = None, **changes: Any) -> dict[str, Any]:
    """Teach the tiny encoder."""
    from vivace.train.preferences.reward import train_reward

    settings = RewardSettings(**{**SETTINGS, **changes})
    return train_reward(dataset, identify(encoder), settings, workspace(folder, progress))


if __name__ == "__main__":
    learn(*map(Path, sys.argv[1:4]), **json.loads("".join(sys.argv[4:]) or "{}"))
