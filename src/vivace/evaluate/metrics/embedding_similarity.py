"""Embedding similarity: the cosine of answer and reference as a sentence embedder sees them.

The embedder is all-MiniLM-L6-v2 (English; Reimers and Gurevych 2019); one that is not on this machine is not fetched.
"""

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec

import numpy as np

from vivace.evaluate.answers import Answer
from vivace.evaluate.metric import Metric, Scope, worded
from vivace.index.embedders import Embedder, open_embedder
from vivace.models.cache import cache_root, is_whole
from vivace.stats import Floats, mean_rows

NAME = "embedding_similarity"
EMBEDDER = "minilm"


def missing_embedder() -> str:
    """Return, as a sentence, why there is no embedder; nothing is opened for it."""
    if find_spec("onnxruntime") is None:
        return "The embedder needs onnxruntime, which is not installed: pip install 'vivace[loop]'."
    if not is_whole(cache_root() / "embedders" / EMBEDDER):
        return (
            f"The embedder {EMBEDDER!r} is not on this machine, and an evaluation fetches none: `vivace data` does "
            f'where data.label.embedder = "{EMBEDDER}".'
        )
    return ""


def cosines(pairs: Sequence[tuple[str, str]]) -> list[float]:
    """Return the cosine of each pair of texts, from 0 to 1: what is below 0 is as unlike as 0."""
    if not pairs:
        return []
    texts = list(dict.fromkeys(text for pair in pairs for text in pair))
    place = {text: number for number, text in enumerate(texts)}
    vectors = opened().embed(texts)
    first, second = (vectors[[place[pair[side]] for pair in pairs]] for side in (0, 1))
    return [float(value) for value in np.clip(np.einsum("nd,nd->n", first, second), 0.0, 1.0)]


@cache
def opened() -> Embedder:
    """Return the embedder, opened once."""
    return open_embedder(EMBEDDER)


def _scope(answers: Sequence[Answer]) -> Scope:
    if reason := missing_embedder():
        known = [each for each in answers if NAME in each.scores]
        return Scope(known, "" if known else reason)
    return worded(answers)


def _rows(answers: Sequence[Answer]) -> Floats:
    """Embed what was not measured before: comparing two reports opens no model."""
    new = [each for each in answers if NAME not in each.scores and not each.failed]
    found = dict(zip((each.id for each in new), cosines([(each.answer, each.reference) for each in new]), strict=True))
    return mean_rows([found.get(each.id, each.scores.get(NAME, 0.0)) for each in answers])


METRIC = Metric(
    NAME, _rows, lambda: f"embedder:{EMBEDDER}|cosine:clipped-at-0|cut:256-tokens|average:examples", scope=_scope
)
