"""Base models measured side by side on the engines that would serve them: how likely the references are, how fast."""

import asyncio
import math
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from vivace.bench.load import Sample, closed_loop
from vivace.domain import Candidate, Example, Message, Progress, Request, Sampling
from vivace.engines import Engine, open_engine
from vivace.errors import EngineDied, VivaceError
from vivace.evaluate.answering import reference_ids
from vivace.store.files import append_line, read_journal

GROUP = 16
ROUNDS = 3
REQUESTS = 4
"""Requests of each model in each round."""
FIXED_TOKENS = 24
_WARM_TOKENS = 4


class Likely(Struct, frozen=True):
    """How likely one model finds one reference answer: bits for `tokens` tokens, end of turn included.

    `error` says why that is not known.
    """

    model: str
    id: str
    bits: float = 0.0
    tokens: int = 0
    bytes: int = 0
    error: str = ""


class Round(Struct, frozen=True):
    """The times of one model in one round, and the most memory its engine had held by then."""

    model: str
    number: int
    samples: tuple[Sample, ...]
    peak_memory_bytes: int
    error: str = ""


class Measured(Struct, frozen=True):
    """Everything measured of one model; `error` says why there is less than wanted."""

    name: str
    likely: tuple[Likely, ...] = ()
    samples: tuple[Sample, ...] = ()
    peak_memory_bytes: int = 0
    error: str = ""
    facts: dict[str, Any] = field(default_factory=dict)


async def measure(
    items: Sequence[Candidate],
    examples: Sequence[Example],
    scratch: Path,
    progress: Progress,
    *,
    threads: int | None = None,
    together: bool = True,
) -> list[Measured]:
    """Measure each candidate on the same examples; what an interrupted run has done is kept in `scratch`.

    The speed comes first, in rounds whose order alternates, with one request at a time and no cache. `together` keeps
    all engines open meanwhile; else each is opened anew in its round, where they do not fit side by side.
    """
    rounds = await _rounds(items, examples, scratch / "rounds.jsonl", progress, threads, together)
    measured = []
    with progress.task("Measuring how likely the references are", total=len(items) * len(examples)) as bar:
        for item in items:
            own = [each for each in rounds if each.model == item.name]
            error = next((each.error for each in own if each.error), "")
            likely: list[Likely] = []
            if not error:
                try:
                    likely = await _likelihoods(item, examples, scratch / "likelihoods.jsonl", bar, threads)
                except VivaceError as failure:
                    error = str(failure)
            samples = tuple(sample for each in own for sample in each.samples)
            peak = max((each.peak_memory_bytes for each in own), default=0)
            measured.append(Measured(item.name, tuple(likely), samples, peak, error))
    return measured


def requests_of(number: int, examples: Sequence[Example], messages: Sequence[tuple[Message, ...]]) -> list[Request]:
    """Return the requests of a round: the same for every model, other prompts in each while there are enough."""
    sampling = Sampling(max_tokens=FIXED_TOKENS, ignore_eos=True)
    chosen = [(number * REQUESTS + place) % len(examples) for place in range(REQUESTS)]
    return [
        Request(f"{number}/{place}/{examples[index].id}", messages[index], sampling=sampling)
        for place, index in enumerate(chosen)
    ]


def asked(item: Candidate, example: Example) -> tuple[Message, ...]:
    """Return what the model is asked: the conversation so far, the project's system prompt first."""
    system = item.chain.get("system", "")
    if not system or any(message.role in ("system", "developer") for message in example.prompt):
        return example.prompt
    return (Message("system", system), *example.prompt)


async def _rounds(
    items: Sequence[Candidate],
    examples: Sequence[Example],
    journal: Path,
    progress: Progress,
    threads: int | None,
    together: bool,
) -> list[Round]:
    done = [msgspec.json.decode(line, type=Round) for line in read_journal(journal)]
    known = {(each.model, each.number) for each in done}
    left = [(number, item) for number in range(ROUNDS) for item in _turned(items, number)]
    left = [(number, item) for number, item in left if (item.name, number) not in known]
    engines: dict[str, Engine] = {}
    async with AsyncExitStack() as exits:
        with progress.task("Measuring speed", total=len(left) * REQUESTS) as bar:
            for number, item in left:
                bar.note(item.name)
                if any(each.error for each in done if each.model == item.name):
                    continue
                try:
                    if item.name in engines:
                        found = await _round(engines[item.name], item, number, examples, bar)
                    elif together:
                        engines[item.name] = await exits.enter_async_context(_opened(item, examples, threads))
                        found = await _round(engines[item.name], item, number, examples, bar)
                    else:
                        async with _opened(item, examples, threads) as engine:
                            found = await _round(engine, item, number, examples, bar)
                except VivaceError as error:
                    found = Round(item.name, number, (), 0, str(error))
                append_line(journal, msgspec.json.encode(found))
                done.append(found)
    return done


def _turned(items: Sequence[Candidate], number: int) -> Sequence[Candidate]:
    return items if number % 2 == 0 else items[::-1]


@asynccontextmanager
async def _opened(item: Candidate, examples: Sequence[Example], threads: int | None) -> AsyncGenerator[Engine, None]:
    """Open a candidate's engine without a cache that a repeated prompt would profit from, and warm it up."""
    async with open_engine(item.engine, item.model, threads=threads, prefix_cache=False) as engine:
        warm = Sampling(max_tokens=_WARM_TOKENS, ignore_eos=True)
        await closed_loop(engine, [Request("warm-up", asked(item, examples[0]), sampling=warm)], 1, lambda: None)
        yield engine


async def _round(engine: Engine, item: Candidate, number: int, examples: Sequence[Example], bar: Any) -> Round:
    requests = requests_of(number, examples, [asked(item, example) for example in examples])
    run = await closed_loop(engine, requests, 1, bar.advance)
    failed = next((sample.error for sample in run.samples if sample.error), None)
    return Round(item.name, number, run.samples, engine.peak_memory_bytes(), failed or "")


async def _likelihoods(
    item: Candidate, examples: Sequence[Example], journal: Path, bar: Any, threads: int | None
) -> list[Likely]:
    found = {
        each.id: each
        for each in (msgspec.json.decode(line, type=Likely) for line in read_journal(journal))
        if each.model == item.name
    }
    bar.advance(len(found))
    left = [example for example in examples if example.id not in found]
    if left:
        bar.note(item.name)
        async with open_engine(item.engine, item.model, threads=threads, prefix_cache=False) as engine:
            for start in range(0, len(left), GROUP):
                group = left[start : start + GROUP]
                for one in await asyncio.gather(*(_likely(engine, item, example) for example in group)):
                    append_line(journal, msgspec.json.encode(one))
                    found[one.id] = one
                bar.advance(len(group))
    return [found[example.id] for example in examples]


async def _likely(engine: Engine, item: Candidate, example: Example) -> Likely:
    size = len(example.reference.encode())
    try:
        prompt_ids, answer_ids = reference_ids(engine.tokenizer, asked(item, example), example)
        logprobs = await engine.token_logprobs(prompt_ids, answer_ids)
    except EngineDied:
        raise
    except VivaceError as error:
        return Likely(item.name, example.id, bytes=size, error=str(error))
    total = math.fsum(logprobs)
    if not math.isfinite(total):
        return Likely(item.name, example.id, bytes=size, error="The engine gave a likelihood that is no number.")
    return Likely(item.name, example.id, -total / math.log(2), len(answer_ids), size)
