"""An embedder that remembers: one dataset's texts are asked for topics, suspects, diversity and curation in turn."""

from collections.abc import Sequence

import numpy as np

from vivace.index.embedders import Embedder, Vectors

MAX_TEXTS = 40_000  # 62 MB at 384 dimensions


class Remembered:
    """Passes on to another embedder what it has not embedded yet."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder
        self._known: dict[str, Vectors] = {}

    @property
    def name(self) -> str:
        """The name of the embedder behind."""
        return self._embedder.name

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        return self._embedder.dimensions

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one vector per text, shape (texts, dimensions)."""
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        found = dict(zip(new, self._embedder.embed(new), strict=True))
        for text in new[: max(0, MAX_TEXTS - len(self._known))]:
            self._known[text] = found[text].copy()
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for place, text in enumerate(texts):
            vectors[place] = found[text] if text in found else self._known[text]
        return vectors
