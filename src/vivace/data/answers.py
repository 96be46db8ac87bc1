"""What is wrong with an answer: each check returns the words that show it, or nothing."""

import re

from vivace.text import normalize_words

_CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
_OPEN_END = re.compile(r"(?<![:;=8xX'-])[(\[{]\s*$")
# Words that no sentence ends with; "to" and "for" can.
_DANGLING = re.compile(
    r"(?:\w+\W+){3}(?:and|or|but|the|an|because|your|our|if|than|which|whose|every|very)\s*$|, which (?:is|are|was)\s*$"
)
_CLOSING_LINE = re.compile(r"^\W*(?:\w+\W+){0,3}\w+,\s*$")
# Lengths at which exports and generators cut.
ROUND_LENGTHS = frozenset({255, 256, 500, 512, 1000, 1024, 2000, 2048, 4000, 4095, 4096, 8000, 8192, 16000, 16384})
_SENTENCE_END = re.compile(r"[.!?…:;)\]}>\"'”’`*~_/|。！？」]\s*$|[^\w\s,]\s*$|https?://\S+$")

_MODEL_HINTS = ("AI", "anguage model", "rtificial", "OpenAI", "programming", "comply", "assist with", "fulfil")
_LANGUAGE_MODEL = re.compile(
    r"\b[Aa]s an? (?:AI|artificial intelligence|(?:large )?language model)"
    r"(?: language model| model| assistant| chatbot)?,? I\b"
    r"|\bI(?:'m| am) (?:just |only )?an? (?:large |AI )?language model\b"
    r"|\bI(?:'m| am) (?:just |only )?an AI(?: model| assistant)?(?: and|,| so)? (?:I )?"
    r"(?:can(?:'t|not)|do(?:n't| not)|am not able|unable)"
    r"|\b(?:trained|created|developed|made) by (?:OpenAI|Anthropic|Google DeepMind|Meta AI|Mistral AI)\b"
    r"|\bmy (?:knowledge cut-?off|training data)\b|\bagainst my (?:programming|ethical guidelines)\b"
    r"|\bI (?:can(?:'t|not)|am unable to|am not able to|won't) "
    r"(?:comply with|fulfil+|assist with) (?:that|this|your|such an?) request\b"
)
_PLACEHOLDER_HINTS = ("{{", "[", "<", "orem ipsum", "OREM IPSUM")
_PLACEHOLDER = re.compile(
    r"\{\{\s*[\w. |-]{1,40}\s*\}\}"
    r"|\[(?:insert|your|customer|client|agent|company|enter|add|specify|provide)(?:'s)?\b[^\]\n]{0,60}\](?!\()"
    r"|\[(?:name|date|time|link|address|amount|(?:order|tracking|phone|ticket|reference|account)[ _](?:number|id|no)"
    r"|e-?mail|phone|number|product)(?: here)?\](?!\()"
    r"|<(?:insert|your|customer|enter)[ _][^>\n]{1,60}>|lorem ipsum dolor",
    re.IGNORECASE,
)
QUOTED_CHARS = 60
MIN_RUN_CHARS = 30
_RUN = re.compile(rf"([^\W\d_])\1{{{MIN_RUN_CHARS - 1}}}")
MIN_LOOP_WORDS = 12
MAX_PERIOD = 16
MIN_REPEATS = 4
MAX_DISTINCT = 0.75  # in an answer of 200 words without a loop about 0.6 of the words are distinct, in short ones more

MIN_ECHO_WORDS = 6
_MASHED = re.compile(r"(?=[a-z]{4,}$)(?:.*(?:asdf|sdfg|dfgj|qwer|zxcv|hjkl|lkjh|fdsa)|[^aeiouy]{5,}$|.*[^aeiouy]{6})")
MAX_GIBBERISH_WORDS = 12


def wordless(text: str) -> str:
    """Return an answer that is only punctuation or emoji."""
    return "" if any(map(str.isalnum, text)) else text.strip()[:40]


def cut_off(text: str) -> str:
    """Return the end of an answer that stops in mid-sentence; only sure signs count.

    Those are a comma, an open bracket, a word that no sentence ends with, an open code fence, or a length at which
    programs cut, without the end of a sentence.
    """
    text = text.rstrip()
    tail = text[-QUOTED_CHARS:]
    if text.count("```") % 2:
        return tail
    if _SENTENCE_END.search(tail) and not _OPEN_END.search(tail):
        return ""
    last_line = text[text.rfind("\n") + 1 :]
    comma = text.endswith(",") and not _CLOSING_LINE.match(last_line)
    cut = comma or _OPEN_END.search(tail) or _DANGLING.search(tail) or len(text) in ROUND_LENGTHS
    return tail if cut else ""


def echo(question: str, answer: str) -> str:
    """Return an answer that has the question's words and no others; greetings and thanks are returned in kind."""
    if abs(len(question) - len(answer)) > len(answer) // 4 + 2:
        return ""
    words = normalize_words(answer)
    return answer[:80] if len(words) >= MIN_ECHO_WORDS and words == normalize_words(question) else ""


def as_language_model(text: str) -> str:
    """Return the words with which a language model speaks of itself, or refuses as one."""
    if not any(hint in text for hint in _MODEL_HINTS):
        return ""
    match = _LANGUAGE_MODEL.search(text.replace("\u2019", "'"))
    return match[0] if match else ""


def placeholder(text: str) -> str:
    """Return a placeholder that somebody forgot to fill in, outside of code."""
    if not any(hint in text for hint in _PLACEHOLDER_HINTS):
        return ""
    match = _PLACEHOLDER.search(_CODE.sub("", text))
    return match[0] if match else ""


def loop(text: str) -> str:
    """Return a phrase of up to 16 words that comes four times in a row, in 12 words at least, or a letter 30 times."""
    words = text.lower().split()
    if max(map(len, words), default=0) >= MIN_RUN_CHARS and (match := _RUN.search(text)):
        return match[0]
    if len(words) < MIN_LOOP_WORDS or len(set(words)) > MAX_DISTINCT * len(words):
        return ""
    for period in range(1, MAX_PERIOD + 1):
        same = 0
        for place in range(period, len(words)):
            same = same + 1 if words[place] == words[place - period] else 0
            if same >= period * (MIN_REPEATS - 1) and same + period >= MIN_LOOP_WORDS:
                return " ".join(words[place - period + 1 : place + 1])
    return ""


def gibberish(text: str) -> str:
    """Return a short answer at least half of whose words are rows of keys or cannot be pronounced."""
    words = text.split()
    if len(words) > MAX_GIBBERISH_WORDS:
        return ""
    mashed = [word for word in words if _MASHED.match(word.strip(".,!?"))]
    return " ".join(mashed)[:80] if mashed and 2 * len(mashed) >= len(words) else ""
