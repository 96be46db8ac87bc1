"""Answer the examples in fixed groups, so that an interrupted run continues where it stopped."""

import asyncio
import hashlib
import math
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

import msgspec
from msgspec import Struct

from vivace.chain import answer
from vivace.config.evaluate import EvaluateSettings
from vivace.domain import (
    Candidate,
    Chunk,
    Example,
    GreedyLikelihood,
    Likelihood,
    Message,
    Progress,
    Request,
    Responder,
    Sampling,
)
from vivace.errors import EngineDied, RequestError, VivaceError
from vivace.evaluate.answers import Answer
from vivace.evaluate.metrics.tool_call import parse_calls, same_calls
from vivace.store.files import append_line, read_journal

_MAX_SEED = 2**31
_REVISION = 2  # what an answer holds; a journal of another revision is not read


class Encoder(Protocol):
    """Turns conversations into token ids, as `vivace.models.ChatTokenizer` does."""

    eos_ids: frozenset[int]

    def encode_chat(
        self, messages: Sequence[Message], *, add_generation_prompt: bool = True, tools: Sequence[dict[str, Any]] = ()
    ) -> tuple[int, ...]:
        """Return the ids of a conversation, ready for the assistant's turn or complete."""
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids."""
        ...


class Group(Struct, frozen=True):
    """One line of the journal: a finished group and what it was asked with."""

    key: str
    answers: tuple[Answer, ...]


class Overhearing:
    """An engine that remembers the conversation each request reached it with, after all layers had their say.

    It also remembers its own death: the process may be up again, and the error turned into an answer, by the time the
    group is whole.
    """

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self.heard: dict[str, tuple[Message, ...]] = {}
        self.death: EngineDied | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.engine, name)

    async def __call__(self, request: Request) -> AsyncGenerator[Chunk, None]:
        """Answer as the engine does."""
        self.heard[request.id] = request.messages
        try:
            async with aclosing(self.engine(request)) as chunks:
                async for chunk in chunks:
                    yield chunk
        except EngineDied as error:
            self.death = error
            raise


class Seat(Struct, frozen=True):
    """Where answers come from: the engine, and the same engine behind its layers."""

    engine: Overhearing
    responder: Responder


def grouped(examples: Sequence[Example], size: int) -> list[list[Example]]:
    """Return the examples in groups that depend on nothing but them: prompts of similar length go together."""
    ordered = sorted(examples, key=lambda each: (sum(len(turn.content) for turn in each.prompt), each.id))
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def group_key(candidate: Candidate, group: Sequence[Example], settings: EvaluateSettings) -> str:
    """Return the hash of everything that decides the answers of a group."""
    asked = (
        _REVISION,
        candidate.engine,
        candidate.model.name,
        candidate.model.weights,
        candidate.model.artifact_id,
        candidate.chain,
        settings.max_tokens,
        settings.temperature,
        settings.likelihood,
        settings.seed if settings.temperature else None,
        group,
    )
    return hashlib.sha256(msgspec.json.encode(asked, order="deterministic")).hexdigest()


def finished_groups(journal: Path) -> dict[str, tuple[Answer, ...]]:
    """Return the groups that an earlier run finished, by key."""
    decoder = msgspec.json.Decoder(Group)
    return {group.key: group.answers for group in map(decoder.decode, read_journal(journal))}


async def answer_examples(
    engine: Any,
    stack: Callable[[Any], Responder],
    groups: Sequence[tuple[str, Sequence[Example]]],
    settings: EvaluateSettings,
    journal: Path,
    progress: Progress,
) -> dict[str, tuple[Answer, ...]]:
    """Answer groups of (key, examples) one after the other and write each to the journal once it is whole.

    `stack` puts the layers around the engine it is given. Raises `EngineDied` when the engine has died; what is in
    the journal by then need not be asked again.
    """
    listener = Overhearing(engine)
    seat = Seat(listener, stack(listener))
    finished: dict[str, tuple[Answer, ...]] = {}
    with progress.task("Answering", total=sum(len(examples) for _, examples in groups)) as bar:
        for key, examples in groups:
            answers = await _answer_group(seat, examples, settings)
            append_line(journal, msgspec.json.encode(Group(key, answers)))
            finished[key] = answers
            bar.advance(len(examples))
            failed = sum(each.failed for group in finished.values() for each in group)
            bar.note(f"{failed} failed" if failed else "")
    return finished


async def _answer_group(seat: Seat, examples: Sequence[Example], settings: EvaluateSettings) -> tuple[Answer, ...]:
    """Answer all at once and wait for every one of them; raises `EngineDied` when the engine died under them."""
    asked = (_answer(seat, each, settings) for each in examples)
    results = await asyncio.gather(*asked, return_exceptions=True)
    broken = [each for each in results if isinstance(each, BaseException)]
    strange = next((each for each in broken if not isinstance(each, EngineDied)), None)
    if strange is not None:
        raise strange
    answers = tuple(each for each in results if isinstance(each, Answer))
    if broken or seat.engine.death or not seat.engine.alive:
        known = [seat.engine.death, *broken, *(each.error for each in answers)]
        reasons = [str(each) for each in known if each]
        raise EngineDied(
            f"The engine died while it answered: {reasons[0] if reasons else 'it said nothing.'}",
            "Run the same command again: finished answers are kept.",
        )
    return answers


async def _answer(seat: Seat, example: Example, settings: EvaluateSettings) -> Answer:
    request = Request(
        id=example.id,
        messages=example.prompt,
        sampling=Sampling(
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=_seed(settings, example) if settings.temperature else None,
        ),
        tools=example.tools,
    )
    blank = Answer(example.id, example.prompt, example.reference, "", metadata=example.metadata)
    if calls := example.messages[-1].tool_calls:
        unwritten = _unwritten(seat.engine.tokenizer, example)
        blank = msgspec.structs.replace(blank, wanted_calls=calls, calls_error=unwritten)
        if blank.unasked:
            return msgspec.structs.replace(blank, likelihood_error=unwritten)
    try:
        trace = await answer(seat.responder, request, monotonic)
    except EngineDied:
        raise
    except VivaceError as error:
        return msgspec.structs.replace(blank, error=str(error), likelihood_error=str(error))
    text = trace.answer.content
    got = msgspec.structs.replace(
        blank,
        answer=text,
        finish_reason=trace.finish_reason,
        prompt_tokens=trace.usage.prompt_tokens if trace.usage else 0,
        completion_tokens=trace.usage.completion_tokens if trace.usage else 0,
        error=trace.error or (None if text.strip() else "The answer is empty."),
    )
    if not settings.likelihood:
        return msgspec.structs.replace(got, likelihood_error="[evaluate] likelihood is off.")
    return await _with_likelihood(got, seat.engine, example)


async def _with_likelihood(answer: Answer, engine: Overhearing, example: Example) -> Answer:
    """Return the answer with how likely the reference is, or why that is unknown."""

    def unknown(reason: str) -> Answer:
        return msgspec.structs.replace(answer, likelihood_error=reason)

    if not isinstance(engine.engine, Likelihood):
        return unknown("The engine cannot tell likelihoods.")
    messages = engine.heard.get(example.id)
    if messages is None:
        return unknown("The request did not reach the engine.")
    greedy: list[bool] = []
    try:
        prompt_ids, answer_ids = reference_ids(engine.tokenizer, messages, example)
        if isinstance(engine.engine, GreedyLikelihood):
            logprobs, greedy = await engine.engine.token_choices(prompt_ids, answer_ids)
        else:
            logprobs = await engine.engine.token_logprobs(prompt_ids, answer_ids)
    except EngineDied:
        raise
    except VivaceError as error:
        return unknown(str(error))
    total, count = math.fsum(logprobs), len(answer_ids)
    if len(logprobs) != count or not math.isfinite(total):
        return unknown(f"The engine gave {len(logprobs)} log-probabilities, sum {total}, for {count} tokens.")
    return msgspec.structs.replace(
        answer, logprob=total, token_count=count, greedy_count=sum(greedy) if len(greedy) == count else None
    )


def _unwritten(tokenizer: Encoder, example: Example) -> str | None:
    """Return why the model cannot be asked for the tool calls of an example: its template does not write them so."""
    called = example.messages[-1]
    try:
        _, ids = reference_ids(tokenizer, example.prompt, example)
        silent = msgspec.structs.replace(
            example, messages=(*example.prompt, msgspec.structs.replace(called, tool_calls=()))
        )
        _, without = reference_ids(tokenizer, example.prompt, silent)
    except VivaceError as error:
        return str(error)
    if ids == without:
        return "The model's chat template writes no tool calls."
    found = parse_calls(tokenizer.decode(ids))
    if not same_calls(found, [call.function for call in called.tool_calls]):
        return "The model's chat template writes tool calls in a form that is not read here."
    return None


def reference_ids(
    tokenizer: Encoder, messages: Sequence[Message], example: Example
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the ids of the prompt and of the reference answer after it, up to and with its end-of-turn token."""
    prompt_ids = tokenizer.encode_chat(messages, tools=example.tools)
    full_ids = tokenizer.encode_chat(
        (*messages, example.messages[-1]), add_generation_prompt=False, tools=example.tools
    )
    answer_ids = full_ids[len(prompt_ids) :]
    if full_ids[: len(prompt_ids)] != prompt_ids or not answer_ids:
        raise RequestError("The chat template does not write the reference answer right after the prompt.", "messages")
    ends = [place for place, token in enumerate(answer_ids) if token in tokenizer.eos_ids]
    return prompt_ids, answer_ids[: ends[-1] + 1] if ends else answer_ids


def _seed(settings: EvaluateSettings, example: Example) -> int:
    """Return a seed of the example's own, so that an answer does not depend on which others were asked."""
    return int(hashlib.sha256(f"{settings.seed}:{example.id}".encode()).hexdigest(), 16) % _MAX_SEED
