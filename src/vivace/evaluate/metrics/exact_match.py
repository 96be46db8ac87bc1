"""Exact match: the share of answers that say the same words in the same order as the reference."""

from vivace.evaluate.metric import mean_metric
from vivace.text import normalize_words, squash_whitespace


def exact_match(answer: str, reference: str) -> float:
    """Return 1 when the normalized words are equal; texts without any word must be equal but for white space."""
    said, wanted = normalize_words(answer), normalize_words(reference)
    if not said and not wanted:
        return float(squash_whitespace(answer) == squash_whitespace(reference))
    return float(said == wanted)


METRIC = mean_metric(
    "exact_match", exact_match, lambda: "words:nfkc-casefold|articles:yes|average:examples", proportion=True
)
