"""Length ratio: words of all answers over words of all references; 1 is as long as asked."""

from collections.abc import Sequence

import numpy as np

from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import Metric, usable_text
from vivace.stats import Floats
from vivace.text import normalize_words


def _rows(answers: Sequence[Answer]) -> Floats:
    pairs = [(len(normalize_words(usable_text(each))), len(normalize_words(each.reference))) for each in answers]
    return np.array(pairs, dtype=np.float64).reshape(len(pairs), 2)


METRIC = Metric("length_ratio", _rows, lambda: "words:nfkc-casefold|average:corpus", compared=False)
