"""From single replies to what counts: a win only in both orders, a score by its expectation."""

from collections.abc import Mapping, Sequence
from typing import Literal

from msgspec import Struct

from vivace.config.judge import JudgeSettings
from vivace.domain import Message
from vivace.evaluate.judge.asking import Question, Verdict
from vivace.evaluate.judge.opinions import Side
from vivace.evaluate.judge.prompts import LETTERS, SCORES, pair_question, score_question

MOST_REASONS = 3


class Pair(Struct, frozen=True):
    """Two answers to one prompt; `group` joins pairs that are no independent evidence."""

    id: str
    prompt: tuple[Message, ...]
    first: str
    second: str
    group: str = ""


class PairVerdict(Struct, frozen=True):
    """What the judge made of a pair: `orders` are its two verdicts, as written and swapped, told of the answers.

    `leading` counts the orders in which it preferred the answer that was shown first, `decided` those without a tie.
    """

    id: str
    verdict: Side | Literal["unreadable"]
    orders: tuple[Side, ...] = ()
    leading: int = 0
    decided: int = 0
    mass: float | None = None
    said: str = ""

    @property
    def flipped(self) -> bool:
        """Whether the preferred answer was another one when the order was another one."""
        return {"first", "second"} == set(self.orders)


class AnswerScore(Struct, frozen=True):
    """What the judge scored an answer by each criterion, 1 to 5; None where a reply could not be read."""

    id: str
    criteria: dict[str, float | None]
    mass: float | None = None
    said: str = ""

    @property
    def mean(self) -> float | None:
        """The mean over the criteria, None unless each could be read."""
        values = [value for value in self.criteria.values() if value is not None]
        return sum(values) / len(values) if values and len(values) == len(self.criteria) else None


def pair_questions(pairs: Sequence[Pair], settings: JudgeSettings) -> list[Question]:
    """Return both orders of each pair; a pair of the same answers needs no question."""
    criteria = "\n".join(each.text for each in settings.criteria)
    questions = []
    for pair in pairs:
        if pair.first.strip() == pair.second.strip():
            continue
        for order, (one, other) in enumerate(((pair.first, pair.second), (pair.second, pair.first))):
            text = pair_question(pair.prompt, one, other, criteria, settings.max_chars)
            questions.append(Question(f"{pair.id}:{order}", text, LETTERS))
    return questions


def pair_verdicts(pairs: Sequence[Pair], found: Mapping[str, Verdict]) -> list[PairVerdict]:
    """Return what both orders say together: a win only where both prefer the same answer (Zheng et al. 2023)."""
    made = []
    for pair in pairs:
        if pair.first.strip() == pair.second.strip():
            made.append(PairVerdict(pair.id, "tie", said="Both answers are the same."))
            continue
        replies = [found[f"{pair.id}:{order}"] for order in (0, 1)]
        unread = [reply.said for reply in replies if not reply.readable]
        if unread:
            made.append(PairVerdict(pair.id, "unreadable", said=unread[0]))
            continue
        letters = [reply.option for reply in replies]
        sides: tuple[dict[str | None, Side], ...] = ({"A": "first", "B": "second"}, {"A": "second", "B": "first"})
        orders: tuple[Side, ...] = tuple(side.get(letter, "tie") for side, letter in zip(sides, letters, strict=True))
        verdict: Side = orders[0] if orders[0] == orders[1] else "tie"
        decided = sum(letter in ("A", "B") for letter in letters)
        made.append(PairVerdict(pair.id, verdict, orders, letters.count("A"), decided, _least_mass(replies)))
    return made


def score_questions(answers: Sequence[tuple[str, Sequence[Message], str]], settings: JudgeSettings) -> list[Question]:
    """Return a question for each criterion of each answer, given as (id, prompt, answer)."""
    return [
        Question(f"{name}:{each.name}", score_question(prompt, answer, each.text, settings.max_chars), SCORES)
        for name, prompt, answer in answers
        for each in settings.criteria
    ]


def answer_scores(ids: Sequence[str], found: Mapping[str, Verdict], settings: JudgeSettings) -> list[AnswerScore]:
    """Return the scores: the mean of 1 to 5 weighed by their probabilities (G-Eval, Liu et al. 2023)."""
    made = []
    for name in ids:
        replies = {each.name: found[f"{name}:{each.name}"] for each in settings.criteria}
        scores = {
            criterion: sum(int(score) * share for score, share in reply.shares.items()) if reply.readable else None
            for criterion, reply in replies.items()
        }
        said = next((reply.said for reply in replies.values() if not reply.readable), "")
        made.append(AnswerScore(name, scores, _least_mass(list(replies.values())), said))
    return made


def unreadable(verdicts: Sequence[PairVerdict | AnswerScore]) -> tuple[int, list[str]]:
    """Return how many verdicts could not be read, and some of what stood there instead."""
    bad = [
        each.said
        for each in verdicts
        if (each.verdict == "unreadable" if isinstance(each, PairVerdict) else each.mean is None)
    ]
    return len(bad), list(dict.fromkeys(bad))[:MOST_REASONS]


def _least_mass(replies: Sequence[Verdict]) -> float | None:
    known = [reply.mass for reply in replies if reply.mass is not None]
    return min(known) if known else None
