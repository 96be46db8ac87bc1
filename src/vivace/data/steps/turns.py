"""Make each conversation one to learn from: customer first, speakers in turn, the agent's answer last."""

from collections import Counter
from collections.abc import Sequence
from functools import partial

import msgspec

from vivace.config.data import DataSettings
from vivace.data.rows import Row, is_answer, is_turn, render
from vivace.data.speakers import tell_apart
from vivace.data.steps import CleanRow, RowStep
from vivace.data.trail import StepTrail
from vivace.domain import Message

Counts = Counter[str]


def _open(settings: DataSettings) -> CleanRow:
    return partial(clean, min_turns=settings.min_turns, max_turns=settings.max_turns)


def clean(row: Row, trail: StepTrail, *, min_turns: int, max_turns: int) -> Row | None:
    """Put the turns in order, cut what has no answer, drop what is then too short.

    A row that has no assistant's turn at all is a query (such as a labeled intent): it stays as it is. What somebody
    rated or compared stays the last turn.
    """
    if row.is_query:
        return row
    if row.is_preference:
        return _clean_preference(row, trail, max_turns)
    counts: Counts = Counter()
    messages = arrange(row.example.messages, max_turns, counts)
    reason, detail = _fault(messages, min_turns)
    if reason:
        trail.drop(row, reason, detail)
        return None
    if messages == row.example.messages:
        return row
    trail.change(row, dict(counts), render(row.example.messages), render(messages))
    return row.with_messages(messages)


def _clean_preference(row: Row, trail: StepTrail, max_turns: int) -> Row | None:
    """Put the turns before a rated answer in order; drop the row if it has none, or is longer than `max_turns`."""
    counts: Counts = Counter()
    *context, answer = row.example.messages or (Message("user", ""),)
    if answer.role != "assistant" or not (answer.content.strip() or answer.tool_calls):
        trail.drop(row, "the rated turn is no answer")
        return None
    context = _merged(_without_leading_answers(_without_empty(context, counts), counts), counts)
    rejected = row.example.rejected
    if context and context[-1].role == "assistant" and not context[-1].tool_calls and not answer.tool_calls:
        begun = context.pop().content
        answer = _continued(begun, answer)
        rejected = (_continued(begun, rejected[0]), *rejected[1:]) if rejected else ()
        counts["turns of one speaker joined"] += 1
    messages = (*context, answer)
    turns = sum(map(is_turn, messages))
    if not any(message.role == "user" for message in context):
        trail.drop(row, "no customer turn")
        return None
    if turns > max_turns:
        trail.drop(row, "more turns than max_turns", f"{turns} > {max_turns}")
        return None
    if messages == row.example.messages:
        return row
    trail.change(row, dict(counts), render(row.example.messages), render(messages))
    example = msgspec.structs.replace(row.example, messages=messages, rejected=rejected)
    return Row(example, row.group, row.held_out)


def _continued(begun: str, answer: Message) -> Message:
    return msgspec.structs.replace(answer, content=f"{begun}\n{answer.content}")


STEP = RowStep(_open)


def arrange(messages: tuple[Message, ...], max_turns: int, counts: Counts) -> tuple[Message, ...]:
    """Return the messages in a form that every chat template takes, counting what was done.

    Turns that all have one speaker are given to two, where their words tell who is who. Empty turns go; tool results
    without a call go; an agent's turns before the customer's first go (most templates refuse them, and they answer
    nothing); turns in a row of one speaker become one; what follows the last answer goes; so does what exceeds
    `max_turns`.
    """
    kept = _without_empty(messages, counts)
    told = tell_apart(kept)
    if told is not None:
        counts["turns given to customer and agent by how they speak"] += len(told)
        kept = list(told)
    kept = _without_leading_answers(kept, counts)
    kept = _merged(kept, counts)
    kept = _up_to_turns(kept, max_turns, counts)
    last = next((place for place in range(len(kept) - 1, -1, -1) if is_answer(kept[place])), None)
    if last is not None and last + 1 < len(kept):
        counts["turns after the last answer cut"] += len(kept) - last - 1
        kept = kept[: last + 1]
    return tuple(kept)


def _fault(messages: tuple[Message, ...], min_turns: int) -> tuple[str, str]:
    if not any(message.role == "user" for message in messages):
        return "no customer turn", ""
    if not any(is_answer(message) for message in messages):
        return "no answer to learn from", ""
    turns = sum(is_turn(message) for message in messages)
    if turns < min_turns:
        return "fewer turns than min_turns", f"{turns} < {min_turns}"
    return "", ""


def _without_empty(messages: Sequence[Message], counts: Counts) -> list[Message]:
    calls: set[str] = set()
    kept: list[Message] = []
    for message in messages:
        calls.update(call.id for call in message.tool_calls)
        if message.role == "tool":
            if message.tool_call_id is not None and message.tool_call_id not in calls:
                counts["tool results without a call removed"] += 1
                continue
        elif not message.content.strip() and not message.tool_calls:
            counts["empty turns removed"] += 1
            continue
        kept.append(message)
    return kept


def _without_leading_answers(messages: list[Message], counts: Counts) -> list[Message]:
    first = next((place for place, message in enumerate(messages) if message.role == "user"), None)
    if first is None:
        return messages
    opening = [message for message in messages[:first] if message.role in ("system", "developer")]
    if len(opening) < first:
        counts["agent turns before the customer's first removed"] += first - len(opening)
    return [*opening, *messages[first:]]


def _merged(messages: list[Message], counts: Counts) -> list[Message]:
    kept: list[Message] = []
    for message in messages:
        before = kept[-1] if kept else None
        if before and message.role == before.role in ("user", "assistant") and not before.tool_calls:
            counts["turns of one speaker joined"] += 1
            weights = [weight for weight in (before.weight, message.weight) if weight is not None]
            kept[-1] = msgspec.structs.replace(
                message,
                content="\n".join(text for text in (before.content, message.content) if text),
                name=before.name if before.name == message.name else None,
                weight=min(weights) if weights else None,
            )
        else:
            kept.append(message)
    return kept


def _up_to_turns(messages: list[Message], max_turns: int, counts: Counts) -> list[Message]:
    turns = 0
    for place, message in enumerate(messages):
        turns += is_turn(message)
        if turns > max_turns:
            counts["turns beyond max_turns cut"] += sum(is_turn(later) for later in messages[place:])
            return messages[:place]
    return messages
