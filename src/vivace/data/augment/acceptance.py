"""Which new texts are accepted: meaning, numbers, names and language kept, nothing of the instruction left."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import Protocol

import numpy as np
from msgspec import Struct

from vivace.data.augment.wording import content_words, exact_parts, mentions, names_in, words_in
from vivace.data.steps.language import detect
from vivace.text import normalize_words

MIN_RATIO, MAX_RATIO = 0.5, 2.0
FREE_CHARS = 12  # "hi" may become "hello there": so many characters more or less are always in bounds
MIN_OVERLAP = 0.6
MIN_WORDS = 3

# What models write around a text they were asked for; a customer who wrote so himself is not refused for it.
_LEAK = re.compile(
    r"\A\W*(?:sure|certainly|of course|okay|ok|absolutely)\b[^.\n]{0,20}[,!:.]\s*here\b"
    r"|\A\W*(?:sure|certainly|of course|absolutely)\b[^.\n]{0,20}[,!:.]\s*i(?:['’]ll| can| will)\b"
    r"|\bhere(?:'s| is| are) (?:the|a|an|my|one|another|your|some)\b[^.\n]{0,40}"
    r"(?:version|rewrit\w*|rephras\w*|paraphras\w*|message|translation|question)"
    r"|\b(?:paraphrase[ds]?|rephrased|rewritten|reworded)\b"
    r"|^\W*(?:(?:rewritten |customer(?:'s)? |original )?message|rewrite|customer|user|agent|assistant|answer"
    r"|translation|output|note|q|a)\s*:"
    r"|\bas an? (?:ai|language) (?:language )?model\b|\bin other words\s*:"
    r"|<\|?/?(?:im_start|im_end|user|assistant|system|s|eot_id)\|?>",
    re.IGNORECASE | re.MULTILINE,
)
_PASSAGE = re.compile(
    r"\b(?:the|this|given|above|provided) (?:passage|excerpt)\b|\baccording to (?:the|this) (?:text|document)\b",
    re.IGNORECASE,
)


_NEGATIONS = frozenset(
    {"no", "not", "never", "without", "nothing", "nobody", "none", "nowhere", "neither", "nor", "cannot", "hardly"}
    | {"não", "nunca", "sem", "nada", "ninguém", "nem", "sin", "nadie", "jamás", "ni"}
    | {"ne", "pas", "jamais", "sans", "rien", "nicht", "kein", "keine", "keinen", "nie", "nichts", "ohne"}
)
_AUXILIARIES = frozenset(
    {
        "do",
        "does",
        "did",
        "is",
        "are",
        "was",
        "were",
        "has",
        "have",
        "had",
        "ca",
        "ai",
        "wo",
        "would",
        "could",
        "should",
    }
)


class TextEmbedder(Protocol):
    """Tells how close texts are in meaning."""

    def embed(self, texts: list[str]) -> np.ndarray:
        """Return one vector of length 1 for each text, shape (texts, width)."""
        ...


class Refusal(Struct, frozen=True):
    """Why a new text is not used: a `reason` that is counted and a `detail` that is not."""

    reason: str
    detail: str = ""


class Exchange(Struct, frozen=True):
    """What a customer asks and an agent answers."""

    question: str
    answer: str


def check_rewrite(before: str, after: str, names: frozenset[str], language: str) -> Refusal | None:
    """Return why `after` does not stand for `before`, or None; meaning is not looked at.

    `names` are those of the conversation (`names_in`), `language` its code or "".
    """
    if not normalize_words(after):
        return Refusal("empty")
    if normalize_words(before) == normalize_words(after):
        return Refusal("the same as its origin")
    if (found := _LEAK.search(after)) and not _LEAK.search(before):
        return Refusal("instruction left in the text", found[0].strip())
    short, long = len(before) * MIN_RATIO - FREE_CHARS, len(before) * MAX_RATIO + FREE_CHARS
    if not short <= len(after) <= long:
        return Refusal("length out of bounds", f"{len(before)} characters became {len(after)}")
    if (detail := _difference(exact_parts(before), exact_parts(after))) is not None:
        return Refusal("numbers changed", detail)
    if (detail := _difference(mentions(before, names), mentions(after, names))) is not None:
        return Refusal("names changed", detail)
    known = names | {word.casefold() for word in words_in(before)}
    if added := sorted(names_in([after]) - known):
        return Refusal("names changed", f"{added[0]} is new")
    if _denies(before) != _denies(after):
        return Refusal("negation changed")
    if stuttered := _stutters(after) - _stutters(before):
        return Refusal("a word twice in a row", min(stuttered))
    return _check_language(before, after, language)


def check_meaning(
    pairs: Sequence[tuple[str, str]], embedder: TextEmbedder, min_similarity: float
) -> list[Refusal | None]:
    """Return for each pair of texts why they do not mean the same, or None."""
    if not pairs:
        return []
    texts = sorted({text for pair in pairs for text in pair})
    places = {text: place for place, text in enumerate(texts)}
    vectors = np.asarray(embedder.embed(texts), dtype=np.float32)
    refusals: list[Refusal | None] = []
    for before, after in pairs:
        similarity = float(vectors[places[before]] @ vectors[places[after]])
        far = not similarity >= min_similarity  # a similarity that is no number is refused, too
        refusals.append(Refusal("meaning changed", f"similarity {similarity:.3f}") if far else None)
    return refusals


def check_grounded(passage: str, exchanges: Sequence[Exchange]) -> Refusal | None:
    """Return why a conversation does not follow from the passage alone, or None."""
    numbers, subjects = exact_parts(passage), content_words(passage)
    known = {word.casefold() for word in words_in(passage)}
    for exchange in exchanges:
        for text in (exchange.question, exchange.answer):
            if (refusal := _check_said(text, passage, numbers, known)) is not None:
                return refusal
        if not content_words(exchange.question) & subjects:
            return Refusal("question not about the passage", exchange.question[:120])
        said = content_words(exchange.answer)
        overlap = len(said & subjects) / len(said) if said else 0.0
        if overlap < MIN_OVERLAP:
            return Refusal("answer not grounded", f"{overlap:.0%} of its content words are in the passage")
    return None


def _check_said(text: str, passage: str, numbers: Counter[str], known: set[str]) -> Refusal | None:
    if len(normalize_words(text)) < MIN_WORDS:
        return Refusal("empty", text[:120])
    if found := (_LEAK.search(text) or _PASSAGE.search(text)):
        return Refusal("instruction left in the text", found[0].strip())
    if invented := sorted(set(exact_parts(text)) - set(numbers)):
        return Refusal("numbers not in the passage", invented[0])
    if invented := sorted(names_in([text]) - known):
        return Refusal("names not in the passage", invented[0])
    return _check_language(passage, text, "")


def _denies(text: str) -> bool:
    """Tell whether a text denies something: embedders find "it came" and "it never came" alike."""
    return any(
        word in _NEGATIONS or (word.endswith("nt") and word[:-2] in _AUXILIARIES) for word in normalize_words(text)
    )


def _stutters(text: str) -> set[str]:
    words = normalize_words(text)
    return {word for word, following in pairwise(words) if word == following and word.isalpha()}


def _difference(before: Counter[str], after: Counter[str]) -> str | None:
    if before == after:
        return None
    lost, added = sorted((before - after).elements()), sorted((after - before).elements())
    return "; ".join([*(f"{part} is lost" for part in lost[:3]), *(f"{part} is new" for part in added[:3])])


def _check_language(before: str, after: str, language: str) -> Refusal | None:
    expected = language or detect(before)[0]
    found, _score = detect(after, frozenset([expected]) if expected else frozenset())
    if expected and found and found != expected:
        return Refusal("language changed", f"{expected} became {found}")
    return None
