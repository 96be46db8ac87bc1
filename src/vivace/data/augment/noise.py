"""Noise: the typing errors, missing capitals and abbreviations of customers in a hurry."""

import random
import re
from collections.abc import Callable, Sequence

from vivace.data.augment.rewriting import Proposals, Propose, Source
from vivace.data.augment.wording import CODE, FUNCTION_WORDS

# Palin et al. (2019), "How do People Type on Mobile Devices?": 2.3 % of the letters typed on phones stay wrong. A word
# of 4 to 8 letters then has an error about once in eight words; half of that, as desktop users write, too.
WORD_ERROR_RATE = 0.06
LOWERCASE_RATE = 0.4
NO_FULL_STOP_RATE = 0.5
NO_COMMAS_RATE = 0.4
NO_APOSTROPHES_RATE = 0.4
ABBREVIATION_RATE = 0.4
MIN_TYPO_LETTERS = 4

_NEIGHBORS = {
    "q": "wa", "w": "qes", "e": "wrd", "r": "etf", "t": "ryg", "y": "tuh", "u": "yij", "i": "uok", "o": "ipl",
    "p": "ol", "a": "qsz", "s": "adwx", "d": "sfec", "f": "dgrv", "g": "fhtb", "h": "gjyn", "j": "hkum", "k": "jli",
    "l": "kop", "z": "xa", "x": "zcs", "c": "xvd", "v": "cbf", "b": "vng", "n": "bmh", "m": "nj",
}  # fmt: skip
# None holds a digit: what is spelled with a digit counts as a number.
_ABBREVIATIONS = {
    "en": {
        "you": "u", "your": "ur", "are": "r", "please": "pls", "thanks": "thx", "because": "bc", "tomorrow": "tmrw",
        "message": "msg", "people": "ppl", "through": "thru", "though": "tho", "with": "w", "delivery": "deliv",
        "address": "addr", "account": "acct", "want": "wanna", "information": "info", "and": "n", "have": "hv",
    },
    "pt": {"você": "vc", "vocês": "vcs", "também": "tb", "porque": "pq", "que": "q", "quando": "qnd",
           "hoje": "hj", "obrigado": "obg", "obrigada": "obg", "mensagem": "msg"},
    "es": {"que": "q", "porque": "xq", "también": "tb", "por": "x", "mensaje": "msj", "gracias": "grax"},
}  # fmt: skip
# Whitespace stays as it is; a chunk with anything else than letters and common punctuation is left alone.
_CHUNK = re.compile(r"([\"'“(]*)([^\W\d_]+(?:['’][^\W\d_]+)*)([\"'”),.;:!?…]*)\Z")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ'’]+\Z")

Edit = Callable[[str, random.Random], str]


def noise(seed: int) -> Propose:
    """Return what types the customer's turns anew; the row's id, the attempt and the seed decide how."""

    async def propose(sources: Sequence[Source], attempt: int) -> list[Proposals]:
        return [
            {
                place: add_noise(
                    text, random.Random(f"{seed} {attempt} {place} {source.example.id}"), source.names, source.language
                )
                for place, text in source.turns.items()
            }
            for source in sources
        ]

    return propose


def add_noise(text: str, dice: random.Random, names: frozenset[str], language: str = "en") -> str:
    """Return the text as a customer in a hurry types it.

    Only words of Latin letters change; names, numbers, addresses, placeholders and code stay as they are.
    """
    habits = _Habits(dice, _ABBREVIATIONS.get(language, {}), names)
    pieces: list[str] = []
    end = 0
    for code in CODE.finditer(text):
        pieces += [habits.type(text[end : code.start()]), code[0]]
        end = code.end()
    rest = text[end:]
    typed = habits.type(rest)
    return "".join(pieces) + (habits.end(typed) if rest else "")


class _Habits:
    """How one customer types one message."""

    def __init__(self, dice: random.Random, abbreviations: dict[str, str], names: frozenset[str]) -> None:
        self._dice = dice
        self._abbreviations = abbreviations
        self._names = names
        self._lowercase = dice.random() < LOWERCASE_RATE
        self._no_full_stop = dice.random() < NO_FULL_STOP_RATE
        self._no_commas = dice.random() < NO_COMMAS_RATE
        self._no_apostrophes = dice.random() < NO_APOSTROPHES_RATE

    def type(self, text: str) -> str:
        chunks = re.split(r"(\s+)", text)
        places = [place for place, chunk in enumerate(chunks) if self._free(chunk)]
        wrong = {place for place in places if self._dice.random() < WORD_ERROR_RATE}
        if not wrong and (long := [place for place in places if len(chunks[place]) > MIN_TYPO_LETTERS]):
            wrong = {self._dice.choice(long)}  # a copy without any error would be none
        for place in places:
            chunks[place] = self._type_word(chunks[place], place in wrong)
        return "".join(chunks)

    def end(self, text: str) -> str:
        """Leave out the full stop at the end of a message, if that is a habit."""
        if self._no_full_stop and re.search(r"[^\W\d_]\.\s*\Z", text):
            return text.rstrip().removesuffix(".")
        return text

    def _free(self, chunk: str) -> bool:
        """Tell whether a chunk is a word that may change: no name, no number, nothing with symbols in it."""
        match = _CHUNK.match(chunk)
        if not match or not _LATIN.match(match[2]) or match[2].casefold() in self._names:
            return False
        return match[2].islower() or match[2].casefold() in FUNCTION_WORDS

    def _type_word(self, chunk: str, wrong: bool) -> str:
        match = _CHUNK.match(chunk)
        assert match is not None
        before, word, after = match.groups()
        if self._lowercase:
            word = word.lower()
        short = self._abbreviations.get(word.casefold())
        if short and self._dice.random() < ABBREVIATION_RATE:
            word = short.capitalize() if word[0].isupper() else short
        elif wrong and len(word) >= MIN_TYPO_LETTERS:
            word = self._dice.choice(_TYPOS)(word, self._dice)
        if self._no_apostrophes:
            word = word.replace("'", "").replace("’", "")
        if self._no_commas and after == ",":
            after = ""
        return before + word + after


def _press_neighbor(word: str, dice: random.Random) -> str:
    places = [place for place, letter in enumerate(word) if place and letter in _NEIGHBORS]
    if not places:
        return word
    place = dice.choice(places)
    return word[:place] + dice.choice(_NEIGHBORS[word[place]]) + word[place + 1 :]


def _swap(word: str, dice: random.Random) -> str:
    place = dice.randrange(1, len(word) - 1)
    return word[:place] + word[place + 1] + word[place] + word[place + 2 :]


def _drop(word: str, dice: random.Random) -> str:
    place = dice.randrange(1, len(word))
    return word[:place] + word[place + 1 :]


def _double(word: str, dice: random.Random) -> str:
    place = dice.randrange(1, len(word))
    return word[:place] + word[place] + word[place:]


_TYPOS: tuple[Edit, ...] = (_press_neighbor, _swap, _drop, _double)
