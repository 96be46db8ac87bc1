"""Words that name groups of people, to count who is spoken of.

Words with a common other meaning in support (black and white are colors of goods, Christian a first name) are left out.
"""

import re
from collections.abc import Mapping, Sequence


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


GROUP_TERMS: Mapping[str, frozenset[str]] = {
    "women": _words(
        "she her hers herself woman women female girl girls wife wives mother mothers mom moms mum mums daughter "
        "daughters sister sisters aunt aunts grandmother grandmothers grandma lady ladies girlfriend madam maam"
    ),
    "men": _words(
        "he him his himself man men male boy boys husband husbands father fathers dad dads son sons brother brothers "
        "uncle uncles grandfather grandfathers grandpa gentleman gentlemen boyfriend sir"
    ),
    "older people": _words(
        "elderly senior seniors pensioner pensioners retired retiree retirees grandmother grandfather grandma "
        "grandpa aged"
    ),
    "younger people": _words(
        "child children kid kids baby babies toddler toddlers teenager teenagers teen teens student students "
        "youngster youngsters"
    ),
    "religion": _words(
        "christians christianity muslim muslims islam islamic jewish jew jews judaism hindu hindus hinduism buddhist "
        "buddhists buddhism sikh sikhs catholic catholics protestant atheist church mosque temple synagogue"
    ),
    "ethnicity": _words(
        "african africans asian asians hispanic hispanics latino latina latinos caucasian arab arabs arabic european "
        "europeans immigrant immigrants ethnic indigenous mexican mexicans chinese indian indians"
    ),
}
_WORD = re.compile(r"[^\W\d_]+")


class GroupTerms:
    """Finds which groups and which of the user's own terms a text mentions."""

    def __init__(self, own: Sequence[str] = ()) -> None:
        # A word may name two groups: a grandmother is a woman and old.
        self._groups: dict[str, set[str]] = {}
        for group, words in GROUP_TERMS.items():
            for word in words:
                self._groups.setdefault(word, set()).add(group)
        self._own = {term: re.compile(rf"(?<!\w){re.escape(term.lower())}(?!\w)") for term in own if term.strip()}

    def mentioned(self, text: str) -> tuple[set[str], set[str]]:
        """Return the groups and the own terms mentioned."""
        lowered = text.lower()
        found: set[str] = set()
        for word in self._groups.keys() & set(_WORD.findall(lowered)):
            found |= self._groups[word]
        return found, {term for term, pattern in self._own.items() if pattern.search(lowered)}
