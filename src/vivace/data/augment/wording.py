"""What of a text must not change, whoever rewrites it: placeholders, addresses, code, numbers, names."""

import re
from collections import Counter
from collections.abc import Iterable
from functools import lru_cache

from msgspec import Struct

from vivace.text import normalize_words

CODE = re.compile(r"```.*?(?:```|\Z)|~~~.*?(?:~~~|\Z)|`[^`\n]+`", re.DOTALL)
_PART = re.compile(
    rf"(?P<code>{CODE.pattern})"
    r"|(?P<placeholder>\[[A-Z]+(?:_[A-Z]+)*_\d+\])"
    r"|(?P<address>(?:https?://|www\.)[^\s<>]*[^\s<>.,;:!?)\]'\"]|[\w.+-]+@[\w-]+(?:\.[\w-]+)+)"
    r"|(?P<unit>[$€£¥%])"
    r"|(?P<token>\w+(?:(?:[-/'’]|(?<=\d)[.,:](?=\d))\w+)*)",
    re.DOTALL,
)
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_SENTENCE_END = re.compile(r"[.!?:;\n\"“”(\[*•>-]\s*\Z")
_MAX_UPPER = 0.6

# The commonest function words: they are no names where they begin a sentence, and say nothing about the content.
_FUNCTION_WORDS = """
    a about after again all also am an and any are aren't as at be been before being but by can can't could couldn't did
    didn't do does doesn't doing don't for from get got had has hasn't have haven't having he hello her here hi his how
    i i'd i'll i'm i've if in into is isn't it it's its just let's like me more my no not now of off oh ok okay on one
    or our out over please really she should so some still such than thank thanks that that's the their them then there
    these they they're this those though to too up us very was wasn't we we're well were what what's when where which
    while who why will with won't would yes yet you you're your
    ao aos as com como da das de do dos e ela ele em essa esse esta este eu isso já mas me meu minha muito na não no nos
    o obrigada obrigado olá os ou para pela pelo por porque qual quando que quem se sem ser seu sua são também um uma
    você à é
    al como con de del el ella en es esta este gracias hola la las lo los me mi muy no o para pero por que quién se ser
    si sin su sus también un una y yo él
    au aux avec bonjour ce ces cette dans de des du elle en est et il je la le les leur ma mais me merci mes mon ne nous
    on ou par pas pour qu que qui sa se ses son sur un une vous à
    aber als am an auch auf aus bei bin bitte da danke das dass dem den der des die ein eine einen er es für habe hallo
    ich ihr im in ist ja kann mein mich mir mit nicht noch oder sie sind so und von wann warum was wie wir wo zu
"""
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())


class Part(Struct, frozen=True):
    """A word, or something exact: what is spelled with a digit, a placeholder, an address, code, a unit."""

    text: str
    is_word: bool
    begins: bool


@lru_cache(maxsize=4096)
def parts_of(text: str) -> tuple[Part, ...]:
    """Return the parts of a text in order, and whether each `begins` a sentence."""
    parts: list[Part] = []
    end = 0
    for match in _PART.finditer(text):
        begins = not parts or bool(_SENTENCE_END.search(text, end, match.start()))
        end = match.end()
        if match.lastgroup != "token":
            parts.append(Part(match[0], False, begins))
        elif any(map(str.isdigit, match[0])):
            parts.append(Part(match[0].casefold(), False, begins))
        else:
            words = _WORD.findall(match[0])
            parts.extend(Part(word, True, begins and not place) for place, word in enumerate(words))
    return tuple(parts)


def exact_parts(text: str) -> Counter[str]:
    """Return what must stand in a rewritten text as often as in this one.

    Placeholders, addresses and code as they are; numbers and everything spelled with a digit ("ABC-1234", "5G") in
    lower case; currency and percent signs.
    """
    return Counter(part.text for part in parts_of(text) if not part.is_word)


def words_in(text: str) -> list[str]:
    """Return the words spelled with letters alone, outside code, placeholders and addresses."""
    return [part.text for part in parts_of(text) if part.is_word]


def names_in(texts: Iterable[str]) -> frozenset[str]:
    """Return the names that texts of one conversation mention, in lower case.

    A name is a word with a capital letter that does not begin a sentence, and is nowhere in the texts written small.
    What is known from one turn holds for the others, where the name may begin a sentence or be written small. Words
    in capitals beside others in capitals, and texts mostly in capitals, are shouted and tell no names.
    """
    capitalized: set[str] = set()
    small: set[str] = set()
    for text in texts:
        words = [part for part in parts_of(text) if part.is_word]
        loud = [_is_loud(part) for part in words]
        small.update(part.text for part in words if part.text.islower())
        if sum(loud) > _MAX_UPPER * len(words):
            continue
        for place, part in enumerate(words):
            shouted = loud[place] and (any(loud[max(0, place - 1) : place]) or any(loud[place + 1 : place + 2]))
            if not (part.begins or shouted or part.text.islower()):
                capitalized.add(_stem(part.text.casefold()))
    return frozenset(capitalized - set(map(_stem, small)) - FUNCTION_WORDS)


def mentions(text: str, names: frozenset[str]) -> Counter[str]:
    """Return which of the names a text mentions, and how often."""
    return Counter(word for word in map(_stem, map(str.casefold, words_in(text))) if word in names)


def content_words(text: str) -> set[str]:
    """Return the beginnings (5 letters) of the words that say what a text is about: a crude stem for any language."""
    return {word[:5] for word in normalize_words(text) if len(word) > 2 and word not in FUNCTION_WORDS}


def _stem(word: str) -> str:
    """Return the word without a genitive ending: "maria's" mentions "maria"."""
    return word.removesuffix("'s").removesuffix("’s")


def _is_loud(part: Part) -> bool:
    return len(part.text) > 1 and part.text.isupper()
