"""How alike two texts are, as the libraries of the field measure it, from 0 to 1."""

from collections.abc import Callable, Sequence
from functools import cache
from importlib.metadata import version
from typing import Any

from vivace.config.grader import Similarity
from vivace.evaluate.metrics.embedding_similarity import EMBEDDER, cosines, missing_embedder
from vivace.text import normalize_words

Pair = tuple[str, str]


def similarities(metric: Similarity, pairs: Sequence[Pair]) -> list[float]:
    """Return the likeness of each pair of (text, reference)."""
    if metric == "cosine":
        return cosines(pairs)
    measure = _MEASURES.get(metric) or _rouge(metric)
    return [min(1.0, max(0.0, measure(text, reference))) for text, reference in pairs]


def missing_similarity(metric: Similarity) -> str:
    """Return, as a sentence, why a likeness cannot be measured here; empty where it can."""
    return missing_embedder() if metric == "cosine" else ""


def signature(metric: Similarity) -> str:
    """Return what the measure exactly is."""
    if metric == "cosine":
        return f"embedder:{EMBEDDER}|cosine:clipped-at-0"
    if metric == "fuzzy_match":
        return f"rapidfuzz:{version('rapidfuzz')}|ratio:indel"
    if metric == "bleu":
        return f"sacrebleu:{version('sacrebleu')}|sentence-bleu|eff:yes"
    if metric == "gleu":
        return f"nltk:{version('nltk')}|sentence-gleu|words:nfkc-casefold"
    if metric == "meteor":
        return f"nltk:{version('nltk')}|meteor|stages:exact,porter-stem|synonyms:none|words:nfkc-casefold"
    return f"rouge-score:{version('rouge-score')}|type:{metric}|stemmer:no|measure:f"


def _fuzzy(text: str, reference: str) -> float:
    from rapidfuzz import fuzz

    return float(fuzz.ratio(text, reference)) / 100


def _bleu(text: str, reference: str) -> float:
    return float(_sentence_bleu().sentence_score(text, [reference]).score) / 100


@cache
def _sentence_bleu() -> Any:
    from sacrebleu.metrics.bleu import BLEU

    return BLEU(effective_order=True)


def _gleu(text: str, reference: str) -> float:
    from nltk.translate.gleu_score import sentence_gleu

    said, wanted = normalize_words(text), normalize_words(reference)
    return float(sentence_gleu([wanted], said)) if said and wanted else float(said == wanted)


class _NoSynonyms:
    """Stands where METEOR looks for WordNet: no word has a synonym."""

    def synsets(self, word: str) -> list[Any]:
        """Return nothing."""
        return []


def _meteor(text: str, reference: str) -> float:
    from nltk.translate.meteor_score import single_meteor_score

    said, wanted = normalize_words(text), normalize_words(reference)
    return float(single_meteor_score(wanted, said, wordnet=_NoSynonyms())) if said and wanted else float(said == wanted)


def _rouge(metric: str) -> Callable[[str, str], float]:
    kind = "rougeL" if metric == "rouge_l" else metric.replace("_", "")
    return lambda text, reference: float(_rouge_scorer(kind).score(reference, text)[kind].fmeasure)


@cache
def _rouge_scorer(kind: str) -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer([kind], use_stemmer=False)


_MEASURES: dict[str, Callable[[str, str], float]] = {
    "fuzzy_match": _fuzzy,
    "bleu": _bleu,
    "gleu": _gleu,
    "meteor": _meteor,
}
