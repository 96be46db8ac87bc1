"""Tell what the finished dataset is made of and how diverse it is, with warnings."""

from collections.abc import Iterator
from typing import Any

import msgspec

from vivace.config.data import DataSettings
from vivace.data.balance.composition import composition
from vivace.data.balance.diversity import diversity
from vivace.data.balance.warnings import warnings
from vivace.data.corpus import Corpus
from vivace.data.labels.topics import sample_places
from vivace.data.rows import Row
from vivace.index.embedders import Embedder

MAX_MEASURED = 20_000


def measure(corpus: Corpus, settings: DataSettings, embedder: Embedder | None) -> dict[str, Any]:
    """Return composition, diversity and warnings, of a seeded sample if there are more than 20,000 rows."""
    places = sample_places(corpus.places(), MAX_MEASURED, settings.seed)

    def rows() -> Iterator[Row]:
        return (row for _place, row in corpus.rows(map(int, places)))

    made_of = composition(rows(), settings)
    diverse = diversity(rows(), embedder, settings.seed)
    return {
        "measured": len(places),
        "composition": msgspec.to_builtins(made_of),
        "diversity": msgspec.to_builtins(diverse, str_keys=True),
        "warnings": warnings(made_of, diverse),
    }
