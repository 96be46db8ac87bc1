"""Text changed for search, keys and classical models; placeholders such as [EMAIL_1] stay as they are."""

import re
from collections.abc import Callable, Collection
from functools import cache, lru_cache

from vivace.errors import ConfigError
from vivace.text.words import APOSTROPHES, MAX_CACHED, separated, squash_whitespace

Transform = Callable[[str], str]

PLACEHOLDER = re.compile(r"(\[[A-Z]+(?:_[A-Z]+)*_\d+\])")
_WORD = re.compile(r"[^\W\d_]+")
# Words between white space and punctuation; what is in addresses, links and codes is nothing that a dictionary knows.
_SPELLED = re.compile(r"(?<![^\s(\"'\u2018\u201c])([A-Z]?[a-z]{3,})(?=[.,;:!?)\"'\u2019\u201d]*(?:\s|$|\[))")
_SENTENCE_START = re.compile(r"(?:^|[.!?]\s+|\n)[(\"'\u2018\u201c]*$")
# ISO 639-1 codes of the languages that Snowball stems.
STEMMERS = {
    "ar": "arabic", "ca": "catalan", "da": "danish", "de": "german", "el": "greek", "en": "english", "es": "spanish",
    "et": "estonian", "eu": "basque", "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian",
    "hy": "armenian", "id": "indonesian", "it": "italian", "lt": "lithuanian", "ne": "nepali", "nl": "dutch",
    "no": "norwegian", "pt": "portuguese", "ro": "romanian", "ru": "russian", "sr": "serbian", "sv": "swedish",
    "ta": "tamil", "tr": "turkish", "yi": "yiddish",
}  # fmt: skip
SHORT_WORD_CHARS = 6  # one letter more or less of a short word makes another word too easily
KNOWN_COUNT = 10**11  # above the dictionary's most frequent word, so that a word of the corpus is the first choice
# People leave the apostrophe out; "that" for "thats" says something else.
_CONTRACTIONS = (
    "dont didnt doesnt cant couldnt wont wouldnt shouldnt isnt arent wasnt werent havent hasnt hadnt aint youre theyre "
    "weve youve theyve thats whats heres theres youll theyll itll itd lets"
)


def lowercase(text: str) -> str:
    """Return the text in lower case."""
    return _around_placeholders(text, str.lower)


def strip_punctuation(text: str) -> str:
    """Return the text without punctuation and symbols, its words as `normalize_words` divides them."""
    return squash_whitespace(_around_placeholders(text, lambda part: separated(APOSTROPHES.sub("", part))))


def stemmer(language: str = "en") -> Transform:
    """Return what replaces words by their Snowball stems, in lower case; raises `ConfigError` for other languages.

    Porter, M. (2001). Snowball: a language for stemming algorithms.
    """
    if language not in STEMMERS:
        raise ConfigError(f"There is no stemmer for the language {language!r}.", f"Known: {', '.join(STEMMERS)}.")
    return _stemmer(language)


def lemmatizer(language: str = "en") -> Transform:
    """Return what replaces words by their dictionary forms; raises `ConfigError` for a language without dictionary."""
    return _lemmatizer(language)


def spelling_corrector(known: Collection[str] = ()) -> Transform:
    """Return what corrects English words that are in no dictionary; `known` are words of the corpus, never changed.

    A word stays when it is `known`, shorter than four letters, has digits, apostrophes or capitals (but for the first
    word of a sentence), or is part of an address or code. A short word is changed by one letter at most, others by
    two. Garbe, W. (2012), SymSpell: symmetric delete spelling correction.
    """
    return _corrector(frozenset(word.lower() for word in known))


def _around_placeholders(text: str, change: Transform) -> str:
    if "[" not in text:
        return change(text)
    parts = PLACEHOLDER.split(text)
    return "".join(part if place % 2 else change(part) for place, part in enumerate(parts))


@cache
def _stemmer(language: str) -> Transform:
    import snowballstemmer

    stem_word = lru_cache(MAX_CACHED)(snowballstemmer.stemmer(STEMMERS[language]).stemWord)
    return lambda text: _around_placeholders(
        text, lambda part: _WORD.sub(lambda match: stem_word(match[0].lower()), part)
    )


@cache
def _lemmatizer(language: str) -> Transform:
    from simplemma import lemmatize
    from simplemma.strategies.dictionaries.dictionary_factory import SUPPORTED_LANGUAGES

    if language not in SUPPORTED_LANGUAGES:
        raise ConfigError(
            f"There is no dictionary of lemmas for the language {language!r}.",
            f"Known: {', '.join(sorted(SUPPORTED_LANGUAGES))}.",
        )
    lemma_of = lru_cache(MAX_CACHED)(lambda word: str(lemmatize(word, lang=language)))
    return lambda text: _around_placeholders(text, lambda part: _WORD.sub(lambda match: lemma_of(match[0]), part))


@lru_cache(1)  # it holds the dictionary
def _corrector(known: frozenset[str]) -> Transform:
    from importlib.resources import as_file, files

    from symspellpy import SymSpell, Verbosity

    speller = SymSpell(max_dictionary_edit_distance=2, prefix_length=7)
    for word in sorted({*known, *_CONTRACTIONS.split()}):
        speller.create_dictionary_entry(word, KNOWN_COUNT)
    with as_file(files("symspellpy") / "frequency_dictionary_en_82_765.txt") as path:
        speller.load_dictionary(str(path), term_index=0, count_index=1)

    @lru_cache(MAX_CACHED)
    def correct_word(word: str, max_letters: int) -> str:
        found = speller.lookup(word, Verbosity.TOP, max_edit_distance=max_letters, include_unknown=True)
        return found[0].term if " " not in found[0].term else word

    def correct(match: re.Match[str]) -> str:
        word = match[1]
        if word.islower():
            return correct_word(word, 1 if len(word) <= SHORT_WORD_CHARS else 2)
        if not _SENTENCE_START.search(match.string, max(0, match.start() - 8), match.start()):
            return word  # a name
        return correct_word(word.lower(), 1).capitalize()

    return lambda text: _around_placeholders(text, lambda part: _SPELLED.sub(correct, part))
