"""Where somebody is introduced, addressed or signs: how people tell their names in a chat or mail."""

import re
from collections.abc import Iterator

from msgspec import Struct

# Written as names are: not all in capitals, because "I'm FURIOUS" is none.
_CAPITALIZED = r"[^\W\d_a-z](?:['’](?=[A-Z])|[^\W\d_A-Z])[^\W\d_]*(?:['’-](?!s\b)[^\W\d_]+)*"
_FULL = rf"(?P<name>{_CAPITALIZED}(?: (?:(?:de|van|von|der|la|bin|al) )?{_CAPITALIZED}\.?){{0,2}})"
_LAX = r"[^\W\d_]{2,}(?: [^\W\d_]{2,})?(?=[ \t]*(?:[.,;!\n]|$|and\b|i\b))"
_ANY_CASE = rf"(?P<name>{_CAPITALIZED}(?: {_CAPITALIZED}){{0,2}}|{_LAX})"
TITLE = r"(?:(?:Mr|Mrs|Ms|Dr|Prof|Doc)\b\.?|(?:Miss|Doctor|Professor)\b)"
_END = r"(?=[ \t]*(?:[.,;:!?)\n–—-]|$|(?:and|from|here|with|speaking|calling|but|my)\b|,? I\b))"
_KIN = (
    "son|daughter|wife|husband|friend|brother|sister|mother|father|mom|mum|dad|partner|child|kid|boss|colleague"
    "|neighbou?r|roommate|girlfriend|boyfriend|assistant"
)
_REGARDS = r"(?:(?:kind |best |warm )?(?:regards|wishes)|(?:yours )?sincerely|cheers|yours|best)"

# After these, whatever stands there is a name, in small letters, too.
_TOLD = re.compile(rf"\b(?i:my (?:full |first |last )?name is|my name'?s|(?<=y )name:) (?:{TITLE} )?{_ANY_CASE}")
_SAID = (
    re.compile(rf"\b(?:name is|the name'?s) (?:{TITLE} )?{_FULL}"),
    re.compile(
        r"\b(?:I am|I'm|Im|i am|i'm|im|[Cc]all me|[Yy]ou(?:'re| are) speaking (?:to|with)) "
        rf"(?:{TITLE} )?{_FULL}{_END}"
    ),
    re.compile(rf"\b[Tt]his is (?:{TITLE} )?{_FULL}(?=,? (?:speaking|here|calling|from|writing)\b)"),
    re.compile(rf"^(?:(?:[Hh]i|[Hh]ello|[Hh]ey)(?: there)?[,.!]? )?[Tt]his is (?:{TITLE} )?{_FULL}(?=[.,!]|$)"),
    re.compile(rf"\b[Mm]y (?:{_KIN})(?:'s name is|,| named| called)? {_FULL}(?=\W|$)"),
    re.compile(
        r"(?:^|(?<=[.!?\n] ))(?i:dear|hi|hello|hey|good (?:morning|afternoon|evening)),? "
        rf"(?:{TITLE} )?{_FULL}(?=[ \t]*[,.!\n]|$)",
        re.MULTILINE,
    ),
    re.compile(rf"\b{TITLE} ?{_FULL}"),
    re.compile(rf"(?:^|[.!?,\n] ?){_FULL} here\b"),
    re.compile(rf"(?i:\b{_REGARDS}),?[ \t]*\n[ \t]*{_FULL}[ \t]*$", re.MULTILINE),
    re.compile(rf"\b(?i:(?:kind |best |warm )?regards|(?:yours )?sincerely),? {_FULL}\s*$"),
    re.compile(rf"\b(?i:thanks|thank you)(?: so much| very much)?,? {_FULL}(?=[ \t]*[.,!\n]|$)"),
)
_HINTS = re.compile(
    r"[Nn]ame|NAME| here|I am|I'm|Im |i am|i'm|im |[Mm]y |[Cc]all me|speaking|[Tt]his is|[Dd]ear|DEAR|\b[Hh]i\b"
    r"|[Hh]ello|[Hh]ey|[Gg]ood |Mr|Ms|Miss|D[ro]|Prof|[Rr]egards|[Ww]ishes|[Ss]incerely|[Cc]heers|[Yy]ours"
    r"|[Bb]est|[Tt]hank"
)
_ASKED = re.compile(
    r"\b(?:may|could|can|might) (?:i|we)\b[^.?!\n]{0,40}\b(?:your|the) (?:full |first |last |account holder'?s )?"
    r"name\b(?! of)|\bwhat(?:'s| is) (?:your|the patient'?s) (?:full |first |last )?name\b"
    r"|\byour (?:full |first |last )?name,? please"
    r"|\b(?:provide|tell|give|confirm|need|have|share)\b[^.?!\n]{0,30}\byour (?:full |first |last )?name\b"
    r"|\b(?:what|which|whose) name\b|\bwho(?:m)? am i (?:speaking|talking|chatting)|\bwith whom\b",
    re.IGNORECASE,
)
_REPLY = re.compile(
    r"^\W*(?:(?i:yes|sure|of course|ok(?:ay)?|certainly|hi|hello|absolutely|no problem|yeah|yep|alright)\W{1,3}){0,2}"
    r"(?:(?i:it'?s|it is|i'?m|i am|this is|name is|the name is|that'?s|my name is|name:)\s+)?" + _ANY_CASE
)
TOKEN = re.compile(r"[^\W\d_]+(?:['’-](?!s\b)[^\W\d_]+)*")
MIN_CHARS = 2
ASKED_CHARS = 300

# These stand after "I'm", "Hi" or a question for the name and are none.
_OTHER_WORDS = """
a able about absolutely actually afraid again ah ai all alright also always am amazing amazon american an and
android angry another any anyone apologies appointment appreciate appreciated appt april are as asking assistant
at august available aware awesome back bad because been being best better blank bot both bro buddy business busy
but bye call called calling can can't certain certainly check cheers christmas client company completely
concerned confused correct could course crap curious currently customer customers dad danke day dear december
definitely delivery didn't different differently disappointed do does doing don't done dr duh either email empty
english even ever every everybody everyone exactly excellent excited extremely facebook february feeling fine
first folks for forget forgot french friday friend friends frustrated fully furious gentlemen german getting
glad gmail go god going good goodbye google got great greek guys had happy have having he hello help her here
here's hey hi hmm hola honestly hope hoping hot how however hurry i i'd i'll i'm i've id if ill im in incorrect
indeed indian instagram interested iphone is it it's its january july june just kind kindly know ladies last
late later let let's like listed listen literally lol looking lost ma maam madam man manager many march may
maybe me merci missing misspelled mom monday more morning mr mrs ms much must my name need neither never
nevermind new next nice no none nope not noted nothing november now np october of off office oh ok okay omg on
one only oops or order our out over passed paying people perfect please pls plz pm pretty prime problem quite
ready really regards registered ridiculous right robot sad same samsung saturday say september seriously service
she should showing since sincerely sir sirs sleep so some somebody someone sorry speaking spelled spelt still
such sunday super support sure team tech thank thankful thanks that that's the their them then there there's
these they this those thursday thx to today together tomorrow tonight too totally trying tuesday ty ugg ugh uh
um unable unacceptable under understood unfortunately unsure upset us using usually vegan very wait waiting want
was we wednesday welcome well were what whatever when where which while who whole why will wishing with won't
wondering working worried would wow writing written wrong y'all yea yeah year yep yes yesterday yet you your
youre yours yup
"""
_NO_NAMES = frozenset(_OTHER_WORDS.split())
# Names that are also words: alone, they count in mid-sentence only.
_BOTH = """
April Art August Baker Best Bill Bishop Black Bright Brown Case Chase Cook Dawn Day Drew Faith Frank Gene Good
Grace Grant Green Guy Hope Jack Joy June King Little Long Love Mark May Miles Moon Page Pat Price Ray Rich Rob
Rose Star Sue Summer White Will Young
"""
ALSO_WORDS = frozenset(_BOTH.split())


class Introduction(Struct, frozen=True):
    """Where a name is told to be one."""

    start: int
    end: int
    name: str


def introductions(text: str, before: str = "") -> Iterator[Introduction]:
    """Yield the names that the words around them tell; `before` is the turn before, in which one was asked for."""
    if _HINTS.search(text):
        for match in _TOLD.finditer(text):
            yield from _introduced(match, sure=True)
        for pattern in _SAID:
            for match in pattern.finditer(text):
                yield from _introduced(match, sure=False)
    if before and len(text) <= ASKED_CHARS and _ASKED.search(before[-ASKED_CHARS:]):
        reply = _REPLY.match(text)
        # In small letters, a name is the whole reply.
        if reply and (reply["name"][0].isupper() or reply.end() >= len(text.rstrip(" .!,"))):
            yield from _introduced(reply, sure=True)


def _introduced(match: re.Match[str], *, sure: bool) -> Iterator[Introduction]:
    name = match["name"]
    start = match.start("name")
    tokens = list(TOKEN.finditer(name))
    kept = 0
    while kept < len(tokens) and (is_name(tokens[kept][0]) or (sure and tokens[kept][0] in ALSO_WORDS)):
        kept += 1
    if kept:
        end = tokens[kept - 1].end()
        if end >= MIN_CHARS:
            yield Introduction(start, start + end, name[:end])


def is_name(word: str) -> bool:
    """Tell whether a word that stands where names stand can be one."""
    return not any(token.casefold() in _NO_NAMES for token in word.split())
