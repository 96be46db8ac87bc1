"""From conversations to token ids, and which of them the model learns to say."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from vivace.domain import Example, Message
from vivace.errors import DataError, ModelError, RequestError
from vivace.models import ChatTokenizer

IGNORED = -100
"""The label of a token that is read but not learned, as PyTorch's losses know it."""

NO_ANSWER = "no assistant turn to learn"
TOO_LONG = "the last exchange alone is longer than max_length"
REFUSED = "the chat template refuses the turns"
UNMATCHED = "the answers cannot be found in the rendered conversation"
SILENT = "the template writes its answers as nothing"
ENDLESS = "no answer is closed by an end token"


class Row(Struct, frozen=True):
    """One conversation as the model reads it; `labels` repeats the ids to learn and holds -100 elsewhere.

    `share` is how much it counts in the loss, beside the others' 1; `turns` counts all but the system's, `silent` the
    answers that the template writes as nothing, such as calls of tools it does not know.
    """

    ids: tuple[int, ...]
    labels: tuple[int, ...]
    share: float = 1.0
    turns: int = 0
    silent: int = 0

    @property
    def learned(self) -> int:
        """How many tokens are in the loss."""
        return sum(label != IGNORED for label in self.labels[1:])


class Encoded(Struct, frozen=True):
    """Rows in the order of their examples, with what was shortened and what was left out and why."""

    rows: tuple[Row, ...]
    shortened: int
    dropped: dict[str, int]


class LeftOutError(Exception):
    """This conversation cannot be learned from."""


def encode_examples(
    tokenizer: ChatTokenizer, examples: Iterable[Example], system: str, max_length: int, *, split: str = "train"
) -> Encoded:
    """Encode the examples of one split exactly as they are served; each one left out is counted with its reason.

    Raises `ModelError` when the chat template is the reason why no row is left, `DataError` for any other reason.
    """
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    shortened = count = 0
    for example in examples:
        count += 1
        turns = with_system(example.messages, system)
        try:
            row = encode_row(tokenizer, turns, example.tools)
            kept = turns
            while len(row.ids) > max_length:
                kept = without_oldest_exchange(kept)
                row = encode_row(tokenizer, kept, example.tools)
        except LeftOutError as reason:
            dropped[str(reason)] += 1
            continue
        shortened += kept is not turns
        rows.append(msgspec.structs.replace(row, share=share_of(example)))
    if not rows:
        _refuse(split, count, dropped, max_length)
    return Encoded(tuple(rows), shortened, dict(dropped))


def share_of(example: Example) -> float:
    """Return how much an example counts in the loss: the `loss_weight` that balancing gave it, else 1."""
    weight = example.metadata.get("loss_weight", 1.0)
    return float(weight) if isinstance(weight, int | float) and not isinstance(weight, bool) and weight > 0 else 1.0


def with_system(messages: Sequence[Message], system: str) -> tuple[Message, ...]:
    """Put the system prompt first, unless the conversation brings its own: the same rule as in serving."""
    turns = tuple(messages)
    if not system or any(message.role in ("system", "developer") for message in turns):
        return turns
    return (Message("system", system), *turns)


def without_oldest_exchange(turns: Sequence[Message]) -> tuple[Message, ...]:
    """Drop the oldest turns up to the next user turn; system turns stay, and so does the last exchange."""
    first = next((i for i, turn in enumerate(turns) if turn.role not in ("system", "developer")), len(turns))
    later = next((i for i in range(first + 1, len(turns)) if turns[i].role == "user"), None)
    if later is None or not any(turn.role == "assistant" for turn in turns[later:]):
        raise LeftOutError(TOO_LONG)
    return (*turns[:first], *turns[later:])


def encode_row(tokenizer: ChatTokenizer, turns: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> Row:
    """Encode one conversation and mark the assistant's tokens, the end of each answer included.

    The ids are those of the whole conversation rendered by the model's own template. An answer is marked only where
    what serving would have shown the model before it (the earlier turns and the generation prompt) is, token by token,
    what stands before it here; some templates rewrite earlier turns, and those turns are read but not learned. Nor are
    answers that come out empty: the model would learn to say nothing.
    """
    wanted = [
        i for i, turn in enumerate(turns) if turn.role == "assistant" and (turn.weight is None or turn.weight > 0)
    ]
    if not wanted:
        raise LeftOutError(NO_ANSWER)
    try:
        ids = tokenizer.encode_chat(turns, add_generation_prompt=False, tools=tools)
        spans = [_span(tokenizer, turns, i, tools, ids) for i in wanted]
    except RequestError as error:
        raise LeftOutError(f"{REFUSED} ({error.message})") from error
    labels = [IGNORED] * len(ids)
    found = [span for span in spans if span is not None]
    spoken = [(start, end) for start, end in found if start == end or tokenizer.decode(ids[start : end - 1]).strip()]
    for start, end in spoken:
        labels[start:end] = ids[start:end]
    told = sum(turn.role not in ("system", "developer") for turn in turns)
    row = Row(ids, tuple(labels), turns=told, silent=len(found) - len(spoken))
    if not found:
        raise LeftOutError(UNMATCHED)
    if not spoken:
        raise LeftOutError(SILENT)
    if not row.learned:
        raise LeftOutError(ENDLESS)
    return row


def _span(
    tokenizer: ChatTokenizer,
    turns: Sequence[Message],
    index: int,
    tools: Sequence[dict[str, Any]],
    ids: tuple[int, ...],
) -> tuple[int, int] | None:
    """Return where the answer `turns[index]` begins and ends in `ids`, None where serving would see other tokens."""
    before = tokenizer.encode_chat(turns[:index], add_generation_prompt=True, tools=tools)
    upto = (
        ids
        if index == len(turns) - 1
        else tokenizer.encode_chat(turns[: index + 1], add_generation_prompt=False, tools=tools)
    )
    # The model stops at the first end token. Whatever the template writes after it, such as a newline or the end of
    # the whole conversation, it never gets to say.
    start = len(before)
    end = next((i + 1 for i in range(start, len(upto)) if upto[i] in tokenizer.eos_ids), None)
    seen = len(upto) if end is None else end
    if ids[:start] != before or ids[:seen] != upto[:seen]:
        return None
    return (start, start if end is None else end)


def _refuse(split: str, count: int, dropped: Counter[str], max_length: int) -> None:
    if not count:
        raise DataError(f"The dataset has no {split} example.", "Add conversations to [data] and run `vivace data`.")
    reason = dropped.most_common(1)[0][0]
    told = f"None of the {count:,} {split} examples can be learned from: {reason}"
    if reason in (UNMATCHED, ENDLESS, SILENT):
        raise ModelError(f"{told}.", "The model's chat template does not fit training; take another base model.")
    if reason.startswith(REFUSED):
        raise ModelError(f"{told}.", "Take a base model whose template knows these roles, or change the turns.")
    if reason == TOO_LONG:
        raise DataError(f"{told} ({max_length:,}).", "Raise max_length in [train].")
    raise DataError(f"{told}.", "Training needs assistant turns whose weight is not 0.")
