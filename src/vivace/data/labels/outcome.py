"""How a conversation ended, told from its last turns by rules that anyone can read; for English.

1. The agent hands the case on in one of the last two turns: escalated.
2. The customer's last turn complains, or the agent's says that nothing can be done: unresolved.
3. The customer's last turn thanks or confirms, or the agent's says that it is solved: resolved.
4. Else: unclear.
"""

import re

from vivace.domain import Message

MAX_CHARS = 600
OUTCOMES = ("resolved", "unresolved", "escalated", "unclear")


def _any_of(*patterns: str) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(patterns) + r")\b")


_HANDED_ON = _any_of(
    r"escalat(?:ed|ing)",
    r"escalate (?:this|your|the|it)",
    r"transfer(?:red|ring)? (?:you|this|your|the (?:call|chat|case))",
    r"(?:connect|put|pass)(?:ed|ing)? you (?:to|through|with|on|over) ",
    r"(?:forward|pass|hand)(?:ed|ing)? (?:this|it|your \w+|the \w+) (?:on |over )?to (?:our|the|my|a) ",
    r"(?:supervisor|manager|specialist) (?:will|is going to) (?:call|contact|reach|be in touch|get back|take over)",
)
_COMPLAINS = _any_of(
    r"still (?:not|no|nothing|waiting|havent|hasnt|doesnt|isnt|wont|cant|dont|didnt)",
    r"(?:doesnt|didnt|does not|did not|isnt|is not|not|wont|not even) (?:work|help|solve|fix)\w*",
    r"not (?:good enough|acceptable|satisfied|happy|resolved|solved|fixed|enough)",
    r"un(?:acceptable|resolved|helpful)", r"no (?:help|use|good)", r"useless", r"ridiculous", r"pathetic", r"worst",
    r"waste of (?:time|money)", r"joke", r"thanks for nothing", r"fed up", r"terrible", r"horrible", r"disgusting",
    r"never (?:again|shop|order|buy|us)\w*", r"(?:want|speak|talk)\w* (?:to|with) (?:a|an|ur|your|the) "
    r"(?:manager|supervisor|human|person|real)", r"consumer (?:court|forum)", r"sue (?:you|u)", r"legal action",
)  # fmt: skip
_GIVES_UP = _any_of(
    r"(?:unable|not able) to (?:help|assist|resolve|process|offer|provide|do)",
    r"(?:cannot|cant|can not) (?:help|assist|resolve|process|offer|do anything)",
    r"(?:nothing|no way) (?:else |more )?(?:we|i|that we|that i) can",
)
_CONFIRMS = _any_of(
    r"than(?:ks|k you|k u|x)", r"thn?x", r"thnks", r"tysm", r"ty", r"cheers", r"much appreciated",
    r"(?:it|that|this) (?:worked|works|helps|helped|did it|solved it|fixed it)", r"works now", r"working now",
    r"(?:all|its|problem|issue) (?:good|set|solved|fixed|sorted|resolved)", r"perfect", r"awesome", r"excellent",
    r"great", r"wonderful", r"you(?:ve| have) been (?:very |so |really |most )?helpful", r"that(?:s| is| will be) all",
)  # fmt: skip
_SOLVED = _any_of(
    r"glad (?:that )?(?:i|we|to|the|it|this|your)",
    r"happy to (?:have helped|hear)",
    r"youre (?:very |most )?welcome",
    r"(?:issue|problem|case|order) (?:has been|is now|is|was) (?:resolved|solved|fixed|closed)",
)
_APOSTROPHES = str.maketrans("", "", "'\u2019")


def outcome(messages: tuple[Message, ...]) -> str:
    """Return `resolved`, `unresolved`, `escalated` or `unclear`."""
    customer = _last(messages, "user", 1)
    agent = _last(messages, "assistant", 2)
    if any(_HANDED_ON.search(turn) for turn in agent):
        return "escalated"
    complains = any(_COMPLAINS.search(turn) for turn in customer)
    if complains or any(_GIVES_UP.search(turn) for turn in agent[:1]):
        return "unresolved"
    if any(_CONFIRMS.search(turn) for turn in customer) or any(_SOLVED.search(turn) for turn in agent[:1]):
        return "resolved"
    return "unclear"


def _last(messages: tuple[Message, ...], role: str, count: int) -> list[str]:
    """Return the last `count` turns of a speaker, the last first, in lower case without apostrophes."""
    found: list[str] = []
    for message in reversed(messages):
        if message.role == role and message.content:
            found.append(message.content[:MAX_CHARS].lower().translate(_APOSTROPHES))
            if len(found) == count:
                break
    return found
