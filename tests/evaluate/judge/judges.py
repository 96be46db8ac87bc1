"""Judges whose faults are known, and people to measure them on."""

import hashlib
import random
import re
from collections.abc import Callable

from tests.evaluate.fakes import FakeEngine
from vivace.config.judge import JudgeSettings
from vivace.domain import Message
from vivace.evaluate.judge.opinions import Compared, Rated

SETTINGS = JudgeSettings(max_chars=10_000)
GOOD, BAD = "apples", "pears"
_PAIR = re.compile(r"<answer A>\n(.*?)\n</answer A>\n\n<answer B>\n(.*?)\n</answer B>", re.DOTALL)
_ONE = re.compile(r"<answer>\n(.*?)\n</answer>", re.DOTALL)


class Ids:
    """A tokenizer with one token per character, which keeps the conversation that was encoded last."""

    eos_ids = frozenset({0})

    def encode_chat(self, messages, **_):
        return tuple(ord(char) for char in messages[-1].content)

    def encode(self, text):
        return tuple(ord(char) for char in text)


class OpinionatedEngine(FakeEngine):
    """A judge that tells likelihoods: `opinion(text of the question)` gives a weight to each option."""

    def __init__(self, opinion: Callable[[str], dict[str, float]], *, dies_after: int | None = None) -> None:
        super().__init__(lambda _: "")
        self.opinion = opinion
        self.tokenizer = Ids()
        self.scored: list[tuple[str, str]] = []
        self.limit = dies_after

    async def token_logprobs(self, prompt_ids, answer_ids) -> list[float]:
        import math

        from vivace.errors import EngineDied

        if self.limit is not None and len(self.scored) >= self.limit:
            raise EngineDied("The engine's process ended with signal 9.")
        text, option = "".join(map(chr, prompt_ids)), "".join(map(chr, answer_ids))
        self.scored.append((text, option))
        weights = self.opinion(text)
        return [math.log(max(weights.get(option, 0.0), 1e-9) / 2)]


def shown_pair(text: str) -> tuple[str, str]:
    """Return the answers that a question shows, the first one first."""
    found = _PAIR.search(text)
    assert found
    return found[1], found[2]


def shown_answer(text: str) -> str:
    found = _ONE.search(text)
    assert found
    return found[1]


def chance(*texts: str) -> float:
    """Return a number between 0 and 1 that depends on texts alone."""
    return int(hashlib.sha256("|".join(texts).encode()).hexdigest(), 16) / 2**256


def taste(answer: str) -> float:
    """Return what people think of an answer: 1 or 0."""
    return float(GOOD in answer)


def _lean(value: float) -> dict[str, float]:
    return {"A": 0.9, "B": 0.1} if value > 0 else {"A": 0.1, "B": 0.9}


def perfect(text: str) -> dict[str, float]:
    one, other = shown_pair(text)
    return _lean(taste(one) - taste(other))


def coin(text: str) -> dict[str, float]:
    one, other = shown_pair(text)
    low, high = sorted((one, other))
    side = 1 if chance(low, high) > 0.5 else -1
    return _lean(side if one == low else -side)


def first(text: str) -> dict[str, float]:
    return _lean(1)


def longer(text: str) -> dict[str, float]:
    one, other = shown_pair(text)
    return _lean(len(one.split()) - len(other.split()))


def seventy(text: str) -> dict[str, float]:
    """Agree with people about seven pairs in ten, in both orders alike."""
    one, other = shown_pair(text)
    right = chance("seventy", *sorted((one, other))) < 0.7
    return _lean((taste(one) - taste(other)) * (1 if right else -1))


def people(count: int, seed: int = 0) -> list[Compared]:
    """Return comparisons: of two answers about as long, one is liked by everybody; words come by chance."""
    rng, made = random.Random(seed), []
    for number in range(count):
        texts = [_words(rng, GOOD), _words(rng, BAD)]
        turned = rng.random() < 0.5
        ordered = texts[::-1] if turned else texts
        prompt = (Message("user", f"question {seed} {number}"),)
        made.append(Compared(f"{seed}-{number}", prompt, *ordered, "second" if turned else "first", f"{seed}-{number}"))
    return made


def raters(count: int, seed: int = 0, good: float = 0.6) -> list[Rated]:
    """Return ratings of answers of any length, `good` of them good."""
    rng, made = random.Random(seed), []
    for number in range(count):
        liked = rng.random() < good
        prompt = (Message("user", f"question {seed} {number}"),)
        made.append(Rated(f"{seed}-{number}", prompt, _words(rng, GOOD if liked else BAD), liked, f"{seed}-{number}"))
    return made


def _words(rng: random.Random, told: str) -> str:
    return " ".join([told, *(rng.choice(("so", "and", "well", "then")) for _ in range(rng.randint(3, 30))),
                     str(rng.randint(0, 10**9))])  # fmt: skip
