"""Is each claim of an answer in its sources? By words, numbers, names and, with an embedder, meaning."""

from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from vivace.evaluate.grounding.facts import claims, codes, content_words, is_claim, names, numbers
from vivace.stats import Floats

Label = Literal["supported", "contradicted", "unsupported", "no claim"]
SAME_BUT_FACTS = 0.4  # share of a claim's other words that a sentence with another number or name needs to deny it
FEATURES = ("best sentence", "all sources", "numbers missing", "names missing", "similarity")


class Embeds(Protocol):
    """Turns texts into vectors of unit length, as `vivace.index.embedders` do."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return one vector per text."""
        ...


class Weights(Struct, frozen=True):
    """A logistic model over `FEATURES`, and the probability from which on a claim counts as supported."""

    intercept: float
    weights: tuple[float, ...]
    threshold: float

    def probability(self, features: Floats) -> Floats:
        """Return the probability of being supported, for features of shape (claims, len(weights))."""
        logits = features[:, : len(self.weights)] @ np.asarray(self.weights) + self.intercept
        return np.asarray(1 / (1 + np.exp(-np.clip(logits, -50, 50))), dtype=np.float64)


# Fitted on the train rows of DSTC11 track 5, the thresholds chosen on its validation rows so that nine in ten claims
# of people who had the sources in front of them pass: benchmarks/grounding.py, docs/evaluate.md. Numbers have no weight
# because one that is missing decides by itself.
WITH_MEANING = Weights(-3.045, (-1.882, 6.786, -0.14, -0.415, 1.075), 0.342)
WORDS_ALONE = Weights(-2.93, (0.0, 6.457, 0.0, -0.32), 0.315)


class Claim(Struct, frozen=True):
    """A sentence of an answer, what the sources say to it, and the sentence of theirs that is nearest.

    `probability` is that of being supported; `missing` are its numbers, codes and names that no source has.
    """

    text: str
    label: Label
    probability: float = 1.0
    missing: tuple[str, ...] = ()
    nearest: str = ""
    source: int | None = None


class Faithfulness(Struct, frozen=True):
    """The claims of one answer; `share` is that of its claims which are supported, None where it claims nothing."""

    id: str
    claims: tuple[Claim, ...]

    @property
    def share(self) -> float | None:
        """How many of the claims are supported."""
        told = [each for each in self.claims if each.label != "no claim"]
        return sum(each.label == "supported" for each in told) / len(told) if told else None

    @property
    def probability(self) -> float | None:
        """The probability of the least supported claim."""
        return min((each.probability for each in self.claims if each.label != "no claim"), default=None)


class Sources(Struct, frozen=True):
    """Sources cut into sentences, with what is looked up in them."""

    sentences: tuple[str, ...]
    places: tuple[int, ...]
    words: tuple[frozenset[str], ...]
    all_words: frozenset[str]
    numbers: frozenset[str]
    codes: frozenset[str]


def cut_sources(sources: Sequence[str]) -> Sources:
    """Cut sources into sentences; `places` says which source each came from."""
    cut = [(sentence, place) for place, source in enumerate(sources) for sentence in claims(source)]
    words = tuple(frozenset(content_words(sentence)) for sentence, _ in cut)
    return Sources(
        tuple(sentence for sentence, _ in cut),
        tuple(place for _, place in cut),
        words,
        frozenset().union(*words),
        frozenset().union(*(numbers(sentence) for sentence, _ in cut)),
        frozenset().union(*(codes(sentence) for sentence, _ in cut)),
    )


def faithfulness(
    name: str, answer: str, sources: Sequence[str], embedder: Embeds | None = None, weights: Weights | None = None
) -> Faithfulness:
    """Return what the sources say to each sentence of an answer; without an embedder words alone decide."""
    chosen = weights or (WITH_MEANING if embedder else WORDS_ALONE)
    cut, known = claims(answer), cut_sources(sources)
    told = [sentence for sentence in cut if is_claim(sentence)]
    found: dict[str, Claim] = {}
    if told:
        features, nearest = claim_features(told, known, embedder)
        for sentence, row, place, chance in zip(told, features, nearest, chosen.probability(features), strict=True):
            found[sentence] = _claim(sentence, row, place, float(chance), known, chosen)
    return Faithfulness(name, tuple(found.get(sentence, Claim(sentence, "no claim")) for sentence in cut))


def claim_features(told: Sequence[str], known: Sources, embedder: Embeds | None) -> tuple[Floats, list[int]]:
    """Return the `FEATURES` of each claim, shape (claims, 5), and which sentence of the sources is nearest (-1: none).

    Without an embedder the similarity is 0.
    """
    similar = np.zeros((len(told), len(known.sentences)))
    if embedder is not None and known.sentences:
        vectors = embedder.embed([*told, *known.sentences])
        similar = np.asarray(vectors[: len(told)] @ vectors[len(told) :].T, dtype=np.float64)
    rows, nearest = [], []
    for line, sentence in enumerate(told):
        words = frozenset(content_words(sentence))
        shares = [len(words & own) / len(words) for own in known.words]
        place = int(np.argmax(np.asarray(shares) + similar[line])) if shares else -1
        best, meaning = max(shares, default=0.0), float(similar[line].max()) if shares else 0.0
        figures, unknown = missing_facts(sentence, known)
        covered = len(words & known.all_words) / len(words)
        rows.append([best, covered, min(2, len(figures)), min(2, len(unknown)), meaning])
        nearest.append(place)
    return np.asarray(rows, dtype=np.float64), nearest


def missing_facts(sentence: str, known: Sources) -> tuple[list[str], list[str]]:
    """Return the numbers and codes of a sentence, and its names, that no source has."""
    figures = sorted(numbers(sentence) - known.numbers) + sorted(codes(sentence) - known.codes)
    return figures, sorted(each for each in names(sentence) if each not in known.all_words)


def _claim(sentence: str, row: Floats, place: int, chance: float, known: Sources, chosen: Weights) -> Claim:
    figures, unknown = missing_facts(sentence, known)
    label: Label = "supported" if chance >= chosen.threshold else "unsupported"
    if figures:
        # A source that says the same with another number contradicts; where none is near, it was made up.
        rival = _rival(sentence, known, numbers(sentence) | codes(sentence), lambda text: bool(numbers(text)))
        label = "unsupported" if rival is None else "contradicted"
        place = place if rival is None else rival
    elif unknown and label == "supported":
        rival = _rival(sentence, known, frozenset(unknown), lambda text: bool(names(text) - names(sentence)))
        label = "supported" if rival is None else "contradicted"
        place = place if rival is None else rival
    nearest, source = (known.sentences[place], known.places[place]) if place >= 0 else ("", None)
    return Claim(sentence, label, chance, tuple(figures + unknown), nearest, source)


def _rival(sentence: str, known: Sources, fact: frozenset[str], has: Callable[[str], bool]) -> int | None:
    """Return the sentence of the sources that says most of the rest of a claim with another fact; None without one."""
    rest = frozenset(content_words(sentence)) - fact
    shared = [
        len(rest & own) / len(rest) if rest and has(text) else 0.0
        for text, own in zip(known.sentences, known.words, strict=True)
    ]
    best = int(np.argmax(shared)) if shared else -1
    return best if best >= 0 and shared[best] >= SAME_BUT_FACTS else None
