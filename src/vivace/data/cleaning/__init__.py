"""Run the cleaning steps over a corpus, row steps in several processes."""

from vivace.data.cleaning.run import clean_corpus

__all__ = ["clean_corpus"]
