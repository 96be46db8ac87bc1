"""Text made comparable, and changed for search, keys and classical models."""

from vivace.text.transforms import lemmatizer, lowercase, spelling_corrector, stemmer, strip_punctuation
from vivace.text.words import normalize_words, squash_whitespace

__all__ = [
    "lemmatizer",
    "lowercase",
    "normalize_words",
    "spelling_corrector",
    "squash_whitespace",
    "stemmer",
    "strip_punctuation",
]
