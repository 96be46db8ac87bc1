"""The rows of a dataset on disk, larger than memory."""

from vivace.data.corpus.corpus import Corpus
from vivace.data.corpus.sketches import Sketches
from vivace.data.corpus.spool import Spool

__all__ = ["Corpus", "Sketches", "Spool"]
