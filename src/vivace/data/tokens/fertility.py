"""How much text a token carries: tokens per word, characters per token, and the words that cost most."""

import re
from collections import Counter
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from vivace.data.tokens.counting import TokenCounter

MAX_WORDS = 50
_WORD = re.compile(r" ?\w+(?:['’\-]\w+)*")


class Fertility(Struct):
    """Tokens against the words and characters they stand for (Rust et al. 2021, ACL); words end at white space."""

    tokens: int = 0
    words: int = 0
    characters: int = 0

    def add(self, text: str, tokens: int) -> None:
        """Count a text."""
        self.tokens += tokens
        self.words += len(text.split())
        self.characters += len(text)

    def told(self) -> dict[str, Any]:
        """Return the counts and their ratios, None where there is nothing to divide by."""
        return {
            "tokens": self.tokens,
            "words": self.words,
            "characters": self.characters,
            "tokens_per_word": round(self.tokens / self.words, 4) if self.words else None,
            "characters_per_token": round(self.characters / self.tokens, 4) if self.tokens else None,
        }


def count_words(words: Counter[str], texts: Iterable[str]) -> None:
    """Count the words of texts as they are written, with the space before them but without punctuation around them.

    The space matters: "yes" and " yes" are different tokens.
    """
    for text in texts:
        words.update(_WORD.findall(text))


def expensive_words(words: Counter[str], counter: TokenCounter, limit: int = MAX_WORDS) -> list[dict[str, Any]]:
    """Return the words that cost most beyond one token each, most first, each with the pieces of its commonest form."""
    forms = sorted(words, key=lambda form: (-words[form], form))
    encoded = dict(zip(forms, counter.encode(forms), strict=True))
    cost: Counter[str] = Counter()
    for form in forms:
        cost[form.strip()] += (len(encoded[form]) - 1) * words[form]
    chosen = sorted((word for word in cost if cost[word] > 0), key=lambda word: (-cost[word], word))[:limit]
    told = []
    for word in chosen:
        found = [form for form in (word, f" {word}") if form in encoded]
        commonest = max(found, key=lambda form: words[form])
        told.append(
            {
                "word": word,
                "occurrences": sum(words[form] for form in found),
                "tokens": sum(words[form] * len(encoded[form]) for form in found),
                "pieces": counter.pieces(encoded[commonest]),
            }
        )
    return told
