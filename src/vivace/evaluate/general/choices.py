"""General questions with one right answer and three wrong ones: which of them does the model find most likely?

Nothing is generated, so that a small model that rambles can still show what it knows. Written for Vivace.
"""

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.domain import Example, Likelihood, Message, Progress
from vivace.errors import EngineDied, EngineError, VivaceError
from vivace.evaluate.answering import reference_ids
from vivace.store.files import append_line, read_journal

QUESTIONS = Path(__file__).with_name("choices.jsonl")
GROUP = 8


class Question(Struct, frozen=True):
    """A question with its answers."""

    id: str
    area: str
    question: str
    right: str
    wrong: tuple[str, ...]

    @property
    def answers(self) -> tuple[str, ...]:
        """All answers, the right one first."""
        return (self.right, *self.wrong)


class Chosen(Struct, frozen=True):
    """How likely a model found each answer, in bits, the right one first, the end of the turn included.

    `bytes` are the answers' lengths with one for that end.
    """

    id: str
    area: str
    bits: tuple[float, ...]
    bytes: tuple[int, ...]

    @property
    def is_right(self) -> bool:
        """Whether the right answer has the fewest bits per byte; a tie is none."""
        costs = [bits / size for bits, size in zip(self.bits, self.bytes, strict=True)]
        return costs[0] < min(costs[1:])


def questions() -> tuple[Question, ...]:
    """Return the questions: facts, language, common sense, logic, code, reading, instructions, arithmetic."""
    decoder = msgspec.json.Decoder(Question)
    return tuple(decoder.decode(line) for line in QUESTIONS.read_bytes().splitlines())


async def choose(engine: Any, asked: Sequence[Question], journal: Path, progress: Progress) -> list[Chosen]:
    """Let an engine judge the answers; finished questions are kept in the journal.

    Raises `EngineError` where the engine cannot tell likelihoods, `EngineDied` when it ends.
    """
    if not isinstance(engine, Likelihood):
        raise EngineError("The engine cannot tell likelihoods, so what its model finds likely is not known.")
    done = {each.id: each for each in map(msgspec.json.Decoder(Chosen).decode, read_journal(journal))}
    left = [each for each in asked if each.id not in done]
    with progress.task("Asking general questions", total=len(left)) as bar:
        for start in range(0, len(left), GROUP):
            group = left[start : start + GROUP]
            for found in await asyncio.gather(*(_choose(engine, each) for each in group)):
                append_line(journal, msgspec.json.encode(found))
                done[found.id] = found
            bar.advance(len(group))
    return [done[each.id] for each in asked]


async def _choose(engine: Any, asked: Question) -> Chosen:
    bits = await asyncio.gather(*(_bits(engine, asked, answer) for answer in asked.answers))
    return Chosen(asked.id, asked.area, tuple(bits), tuple(len(answer.encode()) + 1 for answer in asked.answers))


async def _bits(engine: Any, asked: Question, answer: str) -> float:
    """Return the bits of an answer as a whole turn, its end included."""
    turns = (Message("user", asked.question), Message("assistant", answer))
    try:
        prompt, reference = reference_ids(engine.tokenizer, turns[:1], Example(asked.id, turns))
        total = math.fsum(await engine.token_logprobs(prompt, reference))
    except EngineDied:
        raise
    except VivaceError as error:
        raise EngineError(f"General question {asked.id} cannot be asked: {error.message}", error.hint) from error
    if not math.isfinite(total):
        raise EngineError(f"General question {asked.id}: the engine gave a likelihood that is no number.")
    return -total / math.log(2)
