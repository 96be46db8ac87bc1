"""Token F1: how much the words of answer and reference overlap, order aside.

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
    said, wanted = Counter(normalize_words(answer)), Counter(normalize_words(reference))
    if not said or not wanted:
        return float(not said and not wanted and squash_whitespace(answer) == squash_whitespace(reference))
    return 2 * (said & wanted).total() / (said.total() + wanted.total())


METRIC = mean_metric("token_f1", token_f1, lambda: "words:nfkc-casefold|articles:yes|bag:multiset|average:examples")
