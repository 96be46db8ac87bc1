"""Preferences that a tiny model can learn; as a program, it learns them once in a process of its own."""

import random
import sys
from pathlib import Path
from typing import Any

from tests.train.material import SYSTEM, workspace
from vivace.config.train import PreferenceSettings, TrainSettings
from vivace.domain import Example, Message, Model
from vivace.models import identify
from vivace.store import write_examples

GOOD, BAD = "please", "sorry"
THINGS = ["order", "parcel", "hotel", "room", "address", "password", "breakfast", "booking"]


def answer(word: str, number: int) -> Message:
    return Message("assistant", f"Number {number} is {THINGS[number % 8]}, {word}.")


def prompt(number: int) -> Message:
    return Message("user", f"What about {number}?")


def compared(number: int, split: Any, chosen: str = GOOD, rejected: str = BAD, **metadata: Any) -> Example:
    return Example(
        f"{split}-{number}",
        (prompt(number), answer(chosen, number)),
        split=split,
        metadata=metadata,
        rejected=(answer(rejected, number),),
    )


def rated(number: int, split: Any, word: str, rating: float, **metadata: Any) -> Example:
    return Example(
        f"{split}-{number}-{word}",
        (prompt(number), answer(word, number)),
        split=split,
        metadata=metadata,
        rating=rating,
    )


def write_preferences(folder: Path, *, pairs: bool, shuffled: bool = False, train: int = 48, held: int = 40) -> Path:
    """Pairs or ratings whose good answers hold one word and bad ones another; `shuffled` makes that chance."""
    draw = random.Random(5)
    rows = []
    for number in range(train + held):
        split = "train" if number < train else "validation"
        words = [GOOD, BAD]
        if shuffled:
            draw.shuffle(words)
        if pairs:
            rows.append(compared(number, split, *words))
        else:
            # One answer to a prompt: nothing to make pairs of.
            liked = draw.random() < 0.5
            rows.append(rated(number, split, words[0 if liked else 1], float(liked)))
    write_examples(folder / "preferences.jsonl", rows)
    return folder


def adapter_folder(base: Path, out: Path, method: str = "lora") -> Model:
    """A tuned model that has learned nothing yet."""
    from transformers import set_seed

    from vivace.models import load_causal_lm
    from vivace.train import adapters

    settings = TrainSettings(method=method, lora_r=4, lora_alpha=8, lora_layers_fraction=1.0, num_virtual_tokens=4)
    set_seed(0)
    model = adapters.prepare_weights(load_causal_lm(base), identify(base), settings)
    adapters.write_model(model, identify(base), settings, out)
    return Model("tuned", out, "adapter", "fp32", base=base)


def learn(
    dataset: Path, tuned: Model, base: Path, folder: Path, progress: Any = None, **changes: Any
) -> dict[str, Any]:
    """Align the tiny model."""
    from vivace.train.preferences.align import align

    wanted = {"method": "kto", "max_tokens": None, "num_train_epochs": 3, "learning_rate": 1e-2}
    wanted |= {name: value for name, value in changes.items() if name in PreferenceSettings.model_fields}
    others = {name: value for name, value in changes.items() if name not in PreferenceSettings.model_fields}
    settings = TrainSettings(**{"early_stopping_patience": 9, **others, "preference": wanted})
    return align(dataset, tuned, identify(base), SYSTEM, settings, workspace(folder, progress))


if __name__ == "__main__":
    dataset, tuned, base, folder = map(Path, sys.argv[1:5])
    start = Model("tuned", tuned, "adapter", "fp32", base=base)
    learn(dataset, start, base, folder, method=sys.argv[5], num_train_epochs=float(sys.argv[6]))
