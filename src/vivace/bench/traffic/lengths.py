"""Prompts of a given length, some of which begin alike."""

import random
from collections.abc import Sequence

from msgspec import Struct

from vivace.bench.traffic.traces import BLOCK_TOKENS, Recorded
from vivace.domain import Example, Message, Request, Sampling

SHORT_WORDS, LONG_WORDS = 40, 440
"""The two lengths that are measured to learn how many tokens a word has."""
_TEXT = """
the of and to in is you that it he was for on are as with his they at be this have from or one had by word but not what
all were we when your can said there use an each which she do how their if will up other about out many then them these
so some her would make like him into time has look two more write go see number no way could people my than first water
been call who oil its now find long down day did get come made may part over new sound take only little work know place
year live me back give most very after thing our just name good sentence man think say great where help through much
before line right too mean old any same tell boy follow came want show also around form three small set put end does
another well large must big even such because turn here why ask went men read need land home us move try kind hand
picture again change off play air away animal house point page letter mother answer found study still learn should
world high every near add food between own below country plant last school father keep tree never start city earth eye
light thought head under story saw left few while
"""
WORDS = tuple(_TEXT.split())


class Meter(Struct, frozen=True):
    """What a prompt of one user turn comes to: tokens of a word, and those that the template puts around the turn."""

    tokens_per_word: float
    overhead_tokens: float

    def words(self, tokens: float) -> int:
        """Return how many words a whole prompt of so many tokens has; at least one."""
        return max(1, round((tokens - self.overhead_tokens) / self.tokens_per_word))


class Prose:
    """Endless text from a seed: the words of the project, or plain English."""

    def __init__(self, words: Sequence[str] = WORDS, seed: int = 0) -> None:
        self._words = tuple(words) or WORDS
        self._seed = seed

    def words(self, name: str, count: int) -> list[str]:
        """Return the first `count` words of the text called `name`: the same each time, another for each name."""
        return random.Random(f"{self._seed}/{name}").choices(self._words, k=count)

    def trials(self) -> tuple[str, str]:
        """Return the two texts whose tokens are counted for `fit`."""
        return " ".join(self.words("short", SHORT_WORDS)), " ".join(self.words("long", LONG_WORDS))


def words_of(examples: Sequence[Example]) -> list[str]:
    """Return the words of the prompts of a few hundred examples."""
    return [word for example in examples[:500] for message in example.prompt for word in message.content.split()]


def fit(short_tokens: int, long_tokens: int) -> Meter:
    """Return the meter of a vocabulary in which the two trials have so many tokens."""
    per_word = max(0.1, (long_tokens - short_tokens) / (LONG_WORDS - SHORT_WORDS))
    return Meter(per_word, max(0.0, short_tokens - per_word * SHORT_WORDS))


def prompt(prose: Prose, meter: Meter, tokens: int, name: str, block_ids: Sequence[int] = ()) -> tuple[Message, ...]:
    """Return a prompt of about `tokens`; prompts whose ids begin alike begin with the same text."""
    wanted = meter.words(tokens)
    words: list[str] = []
    block = max(1, round(BLOCK_TOKENS / meter.tokens_per_word))
    for block_id in block_ids:
        words += prose.words(f"block {block_id}", block)
        if len(words) >= wanted:
            break
    if len(words) < wanted:
        words += prose.words(name, wanted - len(words))
    return (Message("user", " ".join(words[:wanted])),)


def replayed(
    recorded: Sequence[Recorded], prose: Prose, meter: Meter, prefix: str, *, ignore_eos: bool = False
) -> list[Request]:
    """Return the requests of a trace, with prompts of their lengths and answers of at most theirs."""
    return [
        Request(
            f"{prefix}/{number}",
            prompt(prose, meter, each.input_tokens, f"{prefix}/{number}", each.block_ids),
            sampling=Sampling(max_tokens=each.output_tokens, ignore_eos=ignore_eos),
        )
        for number, each in enumerate(recorded)
    ]
