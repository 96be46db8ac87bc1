"""Token F1 with its precision and recall: how much the words of answer and reference overlap, order aside.

As in SQuAD (Rajpurkar et al. 2016), but words are `vivace.text.normalize_words` and articles count, so that the
definition is the same in every language.
"""

from collections import Counter

from vivace.evaluate.metric import mean_metric
from vivace.text import normalize_words, squash_whitespace


def token_f1(answer: str, reference: str) -> float:
    """Return the harmonic mean of word precision and recall over the two bags of words.

    Texts without any word, such as a lone emoji, score 1 when they are the same text and 0 otherwise.
    """
    said, wanted, same = _overlap(answer, reference)
    return 2 * same / (said + wanted) if said + wanted else _equal(answer, reference)


def token_precision(answer: str, reference: str) -> float:
    """Return the share of the answer's words that the reference has; see `token_f1` for texts without words."""
    said, wanted, same = _overlap(answer, reference)
    return same / said if said else 0.0 if wanted else _equal(answer, reference)


def token_recall(answer: str, reference: str) -> float:
    """Return the share of the reference's words that the answer has; see `token_f1` for texts without words."""
    return token_precision(reference, answer)


def _overlap(answer: str, reference: str) -> tuple[int, int, int]:
    said, wanted = Counter(normalize_words(answer)), Counter(normalize_words(reference))
    return said.total(), wanted.total(), (said & wanted).total()


def _equal(answer: str, reference: str) -> float:
    return float(squash_whitespace(answer) == squash_whitespace(reference))


def _signature() -> str:
    return "words:nfkc-casefold|articles:yes|bag:multiset|average:examples"


METRIC = mean_metric("token_f1", token_f1, _signature)
PRECISION = mean_metric("token_precision", token_precision, _signature, compared=False)
RECALL = mean_metric("token_recall", token_recall, _signature, compared=False)
