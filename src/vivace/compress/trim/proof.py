"""Prove on texts that a trimmed tokenizer does what the whole one does."""

import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice

from msgspec import Struct
from tokenizers import Tokenizer

from vivace.compress.trim.vocabulary import Vocabulary

BATCH_TEXTS = 512
RANDOM_TEXTS = 10_000
# Blocks that a text of one language rarely has: first, last.
_BLOCKS = (
    (0x00, 0x1F), (0x20, 0x7E), (0x7F, 0x9F), (0xA0, 0xFF), (0x100, 0x24F), (0x300, 0x36F), (0x370, 0x3FF),
    (0x400, 0x4FF), (0x590, 0x6FF), (0x900, 0x97F), (0xE00, 0xE7F), (0x1100, 0x11FF), (0x1E00, 0x1EFF),
    (0x2000, 0x206F), (0x2070, 0x218F), (0x2190, 0x23FF), (0x2500, 0x27BF), (0x3000, 0x30FF), (0x4E00, 0x9FFF),
    (0xAC00, 0xD7A3), (0xE000, 0xF8FF), (0xFB00, 0xFB4F), (0xFE00, 0xFE0F), (0xFF00, 0xFFEF), (0xFFF0, 0xFFFF),
    (0x1F1E6, 0x1F1FF), (0x1F300, 0x1F64F), (0x1F3FB, 0x1F3FF), (0x1F680, 0x1F9FF), (0x20000, 0x2A6DF),
    (0xE0000, 0xE007F), (0x10000, 0x10FFFF),
)  # fmt: skip
_PARTS = (
    "\n", "\r", "\r\n", "\n\n\n", "\t", " ", "  ", "        ", "\u00a0", "\u200b", "\u200d", "\ufeff", "\ufe0f",
    "\u2581",
    "\u2581\u2581", "\u0301", "e\u0301", "é", "👩‍👩‍👧‍👦", "🇩🇪", "❤️", "<0x41>", "<0x0A>", "<0xE4>",
    "##a", "##", "Ġ", "Ċ", "</w>",
    "don't", "n't", "'s", ".", ",", "…", "0", "12345", "3.14", "https://a.b/c?d=e#f", "user", "assistant", "system",
    "\\n", "\x00", "\x1b[0m", "＜/s＞", "ﬁ", "Å", "ß", "İ", "K",
)  # fmt: skip

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDE"


class Difference(Struct, frozen=True):
    """A text that the two tokenizers do not treat alike, and how."""

    text: str
    what: str


class Compared(Struct):
    """How many texts were compared, and those that differ."""

    texts: int = 0
    identical_pieces: int = 0
    with_dropped_tokens: int = 0
    differences: list[Difference] = []


def compare(
    vocabulary: Vocabulary, trimmed: Tokenizer, numbers: Mapping[int, int], texts: Iterable[str], limit: int = 200
) -> Compared:
    """Compare the tokenizers on texts: the same text back always, the same pieces where all of them are kept.

    It stops early with `limit` differences.
    """
    found = Compared()
    for batch in batches(texts):
        before = vocabulary.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        after = trimmed.encode_batch_fast(batch, add_special_tokens=False)
        old, new = [one.ids for one in before], [one.ids for one in after]
        same_text = [True] * len(batch)
        for skip in (False, True):
            pairs = zip(
                vocabulary.tokenizer.decode_batch(old, skip_special_tokens=skip),
                trimmed.decode_batch(new, skip_special_tokens=skip),
                strict=True,
            )
            same_text = [same and theirs == ours for same, (theirs, ours) in zip(same_text, pairs, strict=True)]
        for text, theirs, ours, same in zip(batch, old, new, same_text, strict=True):
            found.texts += 1
            mapped = [numbers.get(number) for number in theirs]
            if not same:
                found.differences.append(Difference(text, "decodes to another text"))
            elif mapped == ours:
                found.identical_pieces += 1
            elif None in mapped:
                found.with_dropped_tokens += 1
            else:
                found.differences.append(Difference(text, "is cut into other pieces"))
        if len(found.differences) >= limit:
            break
    return found


def random_texts(count: int, seed: int, markers: Sequence[str]) -> Iterator[str]:
    """Yield texts of all of Unicode: planes, marks, controls, emoji, line ends, and `markers` written in the text."""
    dice = random.Random(seed)
    for _ in range(count):
        yield "".join(_part(dice, markers) for _ in range(dice.randint(1, 24)))


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """Yield the texts, `BATCH_TEXTS` at a time."""
    waiting = iter(texts)
    while batch := list(islice(waiting, BATCH_TEXTS)):
        yield batch


def _part(dice: random.Random, markers: Sequence[str]) -> str:
    kind = dice.random()
    if kind < 0.12 and markers:
        marker = dice.choice(markers)
        # Now and then only the beginning of one.
        return marker if dice.random() < 0.7 else marker[: dice.randint(1, len(marker))]
    if kind < 0.35:
        return dice.choice(_PARTS)
    if kind < 0.55:
        return " " * (dice.random() < 0.6) + "".join(dice.choices(_LETTERS, k=dice.randint(1, 9)))
    if kind < 0.6:
        return _character(dice, 0, 0x10FFFF)
    first, last = dice.choice(_BLOCKS)
    return "".join(_character(dice, first, last) for _ in range(dice.randint(1, 4)))


def _character(dice: random.Random, first: int, last: int) -> str:
    number = dice.randint(first, last)
    return chr(number) if not 0xD800 <= number <= 0xDFFF else "\ufffd"  # halves of pairs are no characters
