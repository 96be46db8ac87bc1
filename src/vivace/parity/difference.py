"""Two renderings of one conversation: whether they are the same, and if not, what most likely happened."""

from collections import Counter
from collections.abc import Sequence

from msgspec import Struct

from vivace.models import ChatTokenizer
from vivace.parity.findings import Finding, Place
from vivace.parity.rendering import Ask, Expected, Rendering, Words, shown

DOUBLED_BOS = "begins with its first token twice"
LOST_BOS = "lacks the token that texts begin with"
ADDED_BOS = "begins with a token more"
NO_GENERATION_PROMPT = "lacks the generation prompt"
ADDED_GENERATION_PROMPT = "ends with a generation prompt of its own"
SYSTEM_LOST = "the system prompt is lost"
SYSTEM_ADDED = "a system prompt was added"
SYSTEM_OTHER = "another system prompt"
CUT_WRONG_SIDE = "the newest turns were cut instead of the oldest"
CUT_OTHERWISE = "cut at another turn"
TOKENIZER = "the tokenizer cuts the same text into other tokens"
TEMPLATE = "the chat template writes another text"
REFUSED = "refused, though it was learned"
NOT_REFUSED = "rendered, though training refuses it"

HINTS = {
    DOUBLED_BOS: "The template writes the token and the tokenizer adds it again: encode with add_special_tokens=False, "
    "or take it out of the template.",
    LOST_BOS: "Copy chat_template.jinja and tokenizer_config.json of the base again: the template writes this token.",
    ADDED_BOS: "The tokenizer adds a token by itself: encode with add_special_tokens=False.",
    NO_GENERATION_PROMPT: "Render with add_generation_prompt=true, with a template that knows it.",
    ADDED_GENERATION_PROMPT: "The template writes the generation prompt by itself: take the base's template.",
    SYSTEM_LOST: "Set [project] system and the template to what training used, or train again with what is served.",
    SYSTEM_ADDED: "Training saw no such system prompt: take the base's template, or train again with what is served.",
    SYSTEM_OTHER: "Set [project] system and the template to what training used, or train again with what is served.",
    CUT_WRONG_SIDE: "Let Vivace cut (the layer `trim`), or set truncation_side to left where another program cuts.",
    CUT_OTHERWISE: "Another limit or another rule cuts here: compare the context lengths.",
    TOKENIZER: "Copy tokenizer.json of the base again: vocabulary, merges or added tokens are others.",
    TEMPLATE: "Copy the base's chat_template.jinja again, or train again with the template that is served.",
    REFUSED: "The template or the server here knows fewer roles or fields than the trainer's.",
    NOT_REFUSED: "The template here is another one than the trainer's.",
}


class Difference(Struct, frozen=True):
    """What most likely happened, and where the two part."""

    cause: str
    place: Place


class Speech(Struct, frozen=True):
    """How the trainer's folder speaks: its words, and the generation prompt its template writes."""

    words: Words
    generation_prompt: str
    generation_ids: tuple[int, ...] = ()


def speech(tokenizer: ChatTokenizer, words: Words) -> Speech:
    """Return how a folder speaks; a template without generation prompt writes none."""
    from vivace.domain import Message
    from vivace.errors import VivaceError

    turns = [Message("user", "Hello")]
    try:
        whole = tokenizer.render(turns, add_generation_prompt=True)
        plain = tokenizer.render(turns, add_generation_prompt=False)
    except VivaceError:
        return Speech(words, "")
    ending = whole[len(plain) :] if whole.startswith(plain) else ""
    before, after = tokenizer.encode(plain), tokenizer.encode(whole)
    return Speech(words, ending, after[len(before) :] if after[: len(before)] == before else ())


def compare(
    expected: Expected, found: Rendering, ours: Speech, theirs: Words, *, as_text: bool = False
) -> Difference | None:
    """Return how `found` differs from what is expected, None where it does not.

    `as_text` compares the text of the tokens instead of their ids, for a vocabulary that was trimmed on purpose.
    """
    wanted = expected.rendering
    name = expected.ask.name
    if bool(wanted.refused) != bool(found.refused):
        cause = REFUSED if found.refused else NOT_REFUSED
        return Difference(cause, Place(name, 0, wanted.refused or "a prompt", found.refused or "a prompt"))
    if wanted.refused or (wanted.ids == found.ids and not as_text):
        return None
    before, after = ours.words.text(wanted.ids), theirs.text(found.ids)
    if as_text:
        if before == after:
            return None
        at = _first(before, after)
        place = Place(name, at, shown(before[max(0, at - 12) : at + 20]), shown(after[max(0, at - 12) : at + 20]))
        return Difference(_cause(expected.ask, wanted.ids, found.ids, before, after, ours), place)
    at = _first(wanted.ids, found.ids)
    place = Place(name, at, ours.words.around(wanted.ids, at), theirs.around(found.ids, at))
    return Difference(_cause(expected.ask, wanted.ids, found.ids, before, after, ours), place)


def ids_finding(
    hop: str,
    check: str,
    expected: Sequence[Expected],
    found: Sequence[Rendering],
    ours: Speech,
    theirs: Words,
    *,
    as_text: bool = False,
) -> Finding:
    """Return one finding over all conversations: how many differ, the commonest cause and the first place."""
    differences = []
    for wanted, each in zip(expected, found, strict=True):
        difference = compare(wanted, each, ours, theirs, as_text=as_text)
        if difference is not None:
            differences.append(difference)
    refused = sum(bool(wanted.rendering.refused) for wanted in expected)
    told = f"{len(expected)} conversations" + (f", {refused} of them refused alike" if refused else "")
    if as_text:
        told += "; as text, since the vocabulary was trimmed"
    if not differences:
        return Finding(hop, check, True, found=told, of=len(expected))
    cause = Counter(difference.cause for difference in differences).most_common(1)[0][0]
    first = next(difference for difference in differences if difference.cause == cause)
    return Finding(
        hop,
        check,
        False,
        cause=cause,
        hint=HINTS[cause],
        differing=len(differences),
        of=len(expected),
        place=first.place,
    )


def _cause(ask: Ask, wanted: Sequence[int], found: Sequence[int], before: str, after: str, ours: Speech) -> str:
    if before == after:
        return TOKENIZER
    if tuple(found[1:]) == tuple(wanted) and found:
        return DOUBLED_BOS if wanted and found[0] == wanted[0] else ADDED_BOS
    if tuple(wanted[1:]) == tuple(found):
        return LOST_BOS
    ending, last = ours.generation_prompt, ours.generation_ids
    if ending and (before == after + ending or (last and tuple(wanted) == (*found, *last))):
        return NO_GENERATION_PROMPT
    if ending and (after == before + ending or (last and tuple(found) == (*wanted, *last))):
        return ADDED_GENERATION_PROMPT
    if (cut := _cut(ask, before, after)) is not None:
        return cut
    return _system(ask, before, after) or TEMPLATE


def _cut(ask: Ask, before: str, after: str) -> str | None:
    """Say whether the renderings hold other turns of a long conversation."""
    turns = [turn for turn in ask.example.prompt if turn.role not in ("system", "developer") and turn.content.strip()]
    if ask.room is None or len(turns) < 2:
        return None
    newest = turns[-1].content.strip()
    if newest in before and newest not in after:
        return CUT_WRONG_SIDE
    kept = [[turn.content.strip() in text for turn in turns] for text in (before, after)]
    if kept[0] == kept[1]:
        return None
    # Short turns repeat one another, so the last turn may seem there: the ends tell.
    return CUT_WRONG_SIDE if before[-40:] != after[-40:] else CUT_OTHERWISE


def _system(ask: Ask, before: str, after: str) -> str | None:
    """Say what became of the system prompt, if what differs stands before the first question and nothing else does."""
    first = next((turn.content.strip() for turn in ask.example.prompt if turn.role == "user"), "")
    if not first or ask.example.tools:  # where tools are told, more than a prompt stands before the question
        return None
    head, other = before.find(first), after.find(first)
    if head < 0 or other < 0 or before[head:] != after[other:]:
        return None
    if before[:head] == after[:other]:
        return None
    start = _first(before[:head], after[:other])
    end = _shared_end(before[start:head], after[start:other])
    lost, added = before[start : head - end], after[start : other - end]
    if len(lost) < 8 and len(added) < 8:
        return None  # too little for a prompt: the template itself
    if not added:
        return SYSTEM_LOST
    if not lost:
        return SYSTEM_ADDED
    return SYSTEM_OTHER


def _first(one: Sequence[object], other: Sequence[object]) -> int:
    """Return the first place where two sequences differ."""
    for place, (left, right) in enumerate(zip(one, other, strict=False)):
        if left != right:
            return place
    return min(len(one), len(other))


def _shared_end(one: str, other: str) -> int:
    """Return how many last characters two texts share."""
    return _first(one[::-1], other[::-1])
