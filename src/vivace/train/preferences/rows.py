"""From ratings and comparisons to answers a model can be shown, each judged once."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from msgspec import Struct, field

from vivace.domain import Example, Message
from vivace.models import ChatTokenizer
from vivace.train.batches import rows
from vivace.train.batches.rows import IGNORED, Row, encode_row, with_system, without_oldest_exchange

IDENTICAL = "the preferred and the rejected answer are the same"
SEVERAL = "not one answer against one answer to a prompt"
EMPTY = "the answer is empty"
FEW_RATERS = "fewer raters than min_raters"
TIED = "as many think well of it as think badly"
ALONE = "rated, but nobody rated an answer to the same prompt differently"
UNKNOWN = "neither a rating nor a rejected answer"


class Pair(Struct, frozen=True):
    """Two answers to one prompt, by their places among the answers; `share` is how much the pair counts."""

    chosen: int
    rejected: int
    share: float = 1.0


class Rated(Struct, frozen=True):
    """One answer that was found good or bad, by its place among the answers."""

    answer: int
    good: bool
    share: float = 1.0


class Preferences(Struct, frozen=True):
    """Answers with only their own tokens as labels, what was thought of them, and what was left out and why.

    `prompts` and `talks` number the prompt and the conversation of each answer; rows of one conversation are no
    independent evidence.
    """

    answers: tuple[Row, ...] = ()
    prompts: tuple[int, ...] = ()
    talks: tuple[int, ...] = ()
    pairs: tuple[Pair, ...] = ()
    ratings: tuple[Rated, ...] = ()
    left_out: dict[str, int] = {}
    left_out_pairs: dict[str, int] = {}
    left_out_ratings: dict[str, int] = {}


class Said(Struct):
    """One answer to one prompt, with the ratings it got: (rating, example)."""

    example: Example
    answer: Message
    prompt: int
    talk: int
    ratings: list[tuple[float, Example]] = field(default_factory=list)


Encode = Callable[[list[Said]], tuple[dict[int, Row], dict[int, str]]]


class _Collection:
    """Distinct answers and comparisons, in the order of the file."""

    def __init__(self) -> None:
        self.said: list[Said] = []
        self.comparisons: dict[tuple[int, int], list[tuple[int, Example]]] = {}
        self.left_out: Counter[str] = Counter()
        self._places: dict[tuple[int, bytes], int] = {}
        self._prompts: dict[bytes, int] = {}
        self._talks: dict[str, int] = {}

    def add(self, example: Example) -> None:
        """Take one row of preferences."""
        reason = _unfit(example)
        if reason:
            self.left_out[reason] += 1
            return
        liked = self._place(example, example.messages[-1])
        if example.rating is not None:
            self.said[liked].ratings.append((example.rating, example))
        if example.rejected:
            other = self._place(example, example.rejected[0])
            low, high = sorted((liked, other))
            self.comparisons.setdefault((low, high), []).append((1 if low == liked else -1, example))

    def _place(self, example: Example, answer: Message) -> int:
        told = msgspec.json.encode((example.prompt, example.tools))
        prompt = self._prompts.setdefault(told, len(self._prompts))
        name = str(example.metadata.get("conversation_id") or f"prompt {prompt}")
        talk = self._talks.setdefault(name, len(self._talks))
        key = (prompt, _text(answer))
        if key not in self._places:
            self._places[key] = len(self.said)
            self.said.append(Said(example, answer, prompt, talk))
        return self._places[key]


def gather_preferences(
    tokenizer: ChatTokenizer, examples: Iterable[Example], system: str, max_length: int, min_raters: int
) -> Preferences:
    """Judge and encode the answers of one split.

    `pairs` are the compared answers, and rated ones that differ in their rating and share a prompt; `ratings` are the
    rated answers and both sides of the comparisons. Several opinions on one answer or pair are averaged.
    """
    return judge_preferences(examples, min_raters, lambda said: _encode(tokenizer, said, system, max_length))


def judge_preferences(examples: Iterable[Example], min_raters: int, encode: Encode) -> Preferences:
    """Judge the answers of one split, as `gather_preferences` does, with rows made by `encode`.

    `encode` returns the row of each answer by its place in the list, and why an answer has none.
    """
    found = _Collection()
    for example in examples:
        found.add(example)
    encoded, failed = encode(found.said)
    pairs, no_pairs = _judge_pairs(found, min_raters, failed)
    ratings, no_ratings = _judge_ratings(found, min_raters, failed)
    # Answers that could not be encoded have no place: all others move up.
    new = {old: place for place, old in enumerate(encoded)}
    return Preferences(
        answers=tuple(encoded.values()),
        prompts=tuple(found.said[old].prompt for old in encoded),
        talks=tuple(found.said[old].talk for old in encoded),
        pairs=tuple(Pair(new[chosen], new[rejected]) for chosen, rejected in pairs),
        ratings=tuple(Rated(new[answer], good) for answer, good in ratings),
        left_out=dict(found.left_out),
        left_out_pairs=dict(no_pairs),
        left_out_ratings=dict(no_ratings),
    )


def raters(examples: Iterable[Example]) -> int:
    """Return how many people are known to have judged; rows that do not tell count as one person together.

    `metadata.raters` is a count or a list of names, `metadata.rater` one name.
    """
    names: set[str] = set()
    count = 0
    for example in examples:
        told: Any = example.metadata.get("raters")
        if isinstance(told, int) and not isinstance(told, bool):
            count += max(0, told)
        elif isinstance(told, list):
            names |= {str(name) for name in told}
        elif example.metadata.get("rater") is not None:
            names.add(str(example.metadata["rater"]))
    return max(1, len(names) + count)


def mismatched(prompt: Row, answer: Row, max_length: int) -> Row:
    """Return the prompt of one row with the answer of another: what KTO estimates the drift of the model on."""
    own, other = _span(prompt), _span(answer)
    said = answer.ids[other[0] : other[1]]
    before = prompt.ids[: own[0]]
    said = said[: max(1, max_length - len(before))]
    return Row(before + said, (IGNORED,) * len(before) + said)


def _span(row: Row) -> tuple[int, int]:
    learned = [i for i, label in enumerate(row.labels) if label != IGNORED]
    return learned[0], learned[-1] + 1


def _unfit(example: Example) -> str:
    """Return why a row cannot be learned from, "" if it can."""
    before = example.messages[-2:-1]
    answers = (*example.messages[-1:], *example.rejected)
    if example.rating is None and not example.rejected:
        return UNKNOWN
    if len(example.rejected) > 1 or any(turn.role != "assistant" for turn in answers):
        return SEVERAL
    if not before or before[0].role == "assistant":
        return SEVERAL
    if not all(turn.content.strip() or turn.tool_calls for turn in answers):
        return EMPTY
    if len(answers) == 2 and _text(answers[0]) == _text(answers[1]):
        return IDENTICAL
    return ""


def _text(answer: Message) -> bytes:
    # Two calls with the same arguments are the same answer, whatever their ids.
    calls = [(call.function.name, call.function.arguments) for call in answer.tool_calls]
    return msgspec.json.encode((answer.content.strip(), calls))


def _judge_pairs(
    found: _Collection, min_raters: int, failed: dict[int, str]
) -> tuple[list[tuple[int, int]], Counter[str]]:
    """Return (chosen, rejected) of each pair on which people agree more than not."""
    pairs: list[tuple[int, int]] = []
    left_out: Counter[str] = Counter()
    for (low, high), opinions in found.comparisons.items():
        net = sum(side * raters([example]) for side, example in opinions)
        reason = failed.get(low) or failed.get(high) or _doubt(net, [example for _, example in opinions], min_raters)
        if reason:
            left_out[reason] += len(opinions)
        else:
            pairs.append((low, high) if net > 0 else (high, low))
    by_prompt: dict[int, tuple[list[int], list[int]]] = {}
    for place, said in enumerate(found.said):
        if said.ratings:
            lean = _mean([(value, raters([example])) for value, example in said.ratings]) - 0.5
            reason = failed.get(place) or _doubt(lean, [example for _, example in said.ratings], min_raters)
            if reason:
                left_out[reason] += len(said.ratings)
            else:
                by_prompt.setdefault(said.prompt, ([], []))[0 if lean > 0 else 1].append(place)
    for good, bad in by_prompt.values():
        if not (good and bad):
            left_out[ALONE] += sum(len(found.said[place].ratings) for place in (*good, *bad))
            continue
        # Each answer once at least; all combinations would let prompts with many answers count most.
        for i in range(max(len(good), len(bad))):
            chosen, rejected = good[i % len(good)], bad[i % len(bad)]
            if (min(chosen, rejected), max(chosen, rejected)) not in found.comparisons:
                pairs.append((chosen, rejected))
    return pairs, left_out


def _judge_ratings(
    found: _Collection, min_raters: int, failed: dict[int, str]
) -> tuple[list[tuple[int, bool]], Counter[str]]:
    """Return (answer, good) of each answer of which people think well or badly; a comparison rates both its sides."""
    opinions = [list(said.ratings) for said in found.said]
    for (low, high), compared in found.comparisons.items():
        for side, example in compared:
            opinions[low].append((1.0 if side > 0 else 0.0, example))
            opinions[high].append((0.0 if side > 0 else 1.0, example))
    ratings: list[tuple[int, bool]] = []
    left_out: Counter[str] = Counter()
    for place, given in enumerate(opinions):
        net = _mean([(value, raters([example])) for value, example in given]) - 0.5
        reason = failed.get(place) or _doubt(net, [example for _, example in given], min_raters)
        if reason:
            left_out[reason] += len(given)
        else:
            ratings.append((place, net > 0))
    return ratings, left_out


def _doubt(net: float, examples: list[Example], min_raters: int) -> str:
    if raters(examples) < min_raters:
        return FEW_RATERS
    return TIED if abs(net) < 1e-9 else ""


def _mean(values: list[tuple[float, int]]) -> float:
    return sum(value * count for value, count in values) / sum(count for _, count in values)


def _encode(
    tokenizer: ChatTokenizer, said: list[Said], system: str, max_length: int
) -> tuple[dict[int, Row], dict[int, str]]:
    """Return the rows of the answers by place, and why an answer has none; answers to one prompt see the same turns."""
    by_prompt: dict[int, list[int]] = {}
    for place, one in enumerate(said):
        by_prompt.setdefault(one.prompt, []).append(place)
    encoded: dict[int, Row] = {}
    failed: dict[int, str] = {}
    for places in by_prompt.values():
        prompt = with_system(said[places[0]].example.prompt, system)
        while True:
            made = {place: _encode_one(tokenizer, prompt, said[place]) for place in places}
            whole = {place: row for place, row in made.items() if isinstance(row, Row)}
            if all(len(row.ids) <= max_length for row in whole.values()):
                break
            try:
                prompt = without_oldest_exchange((*prompt, said[places[0]].answer))[:-1]
            except rows.LeftOutError as reason:
                longer = {place for place, row in whole.items() if len(row.ids) > max_length}
                made |= dict.fromkeys(longer, str(reason))
                break
        encoded |= {place: row for place, row in made.items() if isinstance(row, Row)}
        failed |= {place: row for place, row in made.items() if isinstance(row, str)}
    return dict(sorted(encoded.items())), failed


def _encode_one(tokenizer: ChatTokenizer, prompt: Sequence[Message], said: Said) -> Row | str:
    """Return the row of an answer, or the reason why there is none."""
    read = [msgspec.structs.replace(turn, weight=0.0) for turn in prompt]
    answer = msgspec.structs.replace(said.answer, weight=None)
    try:
        return encode_row(tokenizer, (*read, answer), said.example.tools)
    except rows.LeftOutError as reason:
        return str(reason)
