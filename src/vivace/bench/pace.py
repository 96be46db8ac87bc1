"""How fast answers of one length come, one at a time and several at once, from models side by side in one run."""

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import numpy as np
from msgspec import Struct

from vivace.bench.foreign import ForeignLoad
from vivace.bench.load import Sample, closed_loop
from vivace.bench.summary import answered
from vivace.chain import stack
from vivace.domain import Candidate, Example, Progress, Request, Sampling
from vivace.engines import open_engine
from vivace.errors import EngineError
from vivace.stats import ratio_interval
from vivace.store.files import append_line, read_journal

AT_ONCE = 8
ROUNDS = 3
ANSWER_TOKENS = 48
ALONE = 3
"""Requests of a round that are sent one after the other."""


class Times(Struct, frozen=True):
    """What one model did in one round with so many requests in work; one line of the journal."""

    name: str
    number: int
    at_once: int
    samples: tuple[Sample, ...]
    seconds: float
    peak_memory_bytes: int
    foreign_cpu_fraction: float = 0.0


class Ratio(Struct, frozen=True):
    """How many times faster than the reference, with its 95 % interval."""

    value: float
    low: float
    high: float


class Pace(Struct, frozen=True):
    """One model's speed: decoding and first token alone, tokens a second with `AT_ONCE` requests in work.

    `decode_ratio` compares times per output token alone, `throughput_ratio` times of whole answers at `AT_ONCE`.
    """

    name: str
    ttft_ms: float
    token_ms: float
    tokens_per_s: float
    peak_memory_bytes: int
    decode_ratio: Ratio
    throughput_ratio: Ratio
    foreign_cpu_fraction: float = 0.0


async def paces(
    items: Sequence[Candidate],
    examples: Sequence[Example],
    scratch: Path,
    progress: Progress,
    *,
    reference: str = "",
    threads: int | None = None,
) -> list[Pace]:
    """Measure models in rounds whose order alternates, beside the one named `reference` (the first); caches are off.

    Finished rounds are kept in `scratch`. Raises `EngineError` where a model answers nothing.
    """
    journal = scratch / "paces.jsonl"
    done = [msgspec.json.decode(line, type=Times) for line in read_journal(journal)]
    known = {(each.name, each.number, each.at_once) for each in done}
    wanted = [
        (number, item, at_once)
        for number in range(ROUNDS)
        for item in (items if number % 2 == 0 else items[::-1])
        for at_once in (1, AT_ONCE)
        if (item.name, number, at_once) not in known
    ]
    async with AsyncExitStack() as exits:
        engines = {}
        for item in {item.name: item for _number, item, _at_once in wanted}.values():
            context = open_engine(item.engine, item.model, threads=threads, prefix_cache=False)
            engines[item.name] = await exits.enter_async_context(context)
            warm = _requests(item, -1, examples, 2, tokens=4)
            await closed_loop(stack(engines[item.name], item.chain), warm, 2, lambda: None)
        with progress.task("Measuring speed side by side", total=len(wanted)) as bar:
            for number, item, at_once in wanted:
                bar.note(f"{item.name}, {at_once} at once")
                responder = stack(engines[item.name], item.chain)
                foreign = ForeignLoad()
                requests = _requests(item, number, examples, ALONE if at_once == 1 else AT_ONCE)
                run = await closed_loop(responder, requests, at_once, lambda: None)
                peak = engines[item.name].peak_memory_bytes()
                times = Times(item.name, number, at_once, run.samples, run.seconds, peak, foreign.fraction())
                append_line(journal, msgspec.json.encode(times))
                done.append(times)
                bar.advance()
    return [_pace(item.name, reference or items[0].name, done) for item in items]


def _requests(
    item: Candidate, number: int, examples: Sequence[Example], count: int, tokens: int = ANSWER_TOKENS
) -> list[Request]:
    """Return requests for answers of the same length; those of a provider end when they are done."""
    sampling = Sampling(max_tokens=tokens, ignore_eos=item.model.format != "remote")
    chosen = [examples[(number * AT_ONCE + place) % len(examples)] for place in range(count)]
    return [Request(f"{number}/{place}/{each.id}", each.prompt, sampling=sampling) for place, each in enumerate(chosen)]


def _pace(name: str, reference: str, done: Sequence[Times]) -> Pace:
    alone, together = _samples(name, 1, done), _samples(name, AT_ONCE, done)
    runs = [each for each in done if each.name == name]
    seconds = sum(each.seconds for each in runs if each.at_once == AT_ONCE)
    return Pace(
        name,
        ttft_ms=float(np.median([each.ttft_ms or 0.0 for each in alone])),
        token_ms=float(np.median(_token_ms(alone))),
        tokens_per_s=sum(each.completion_tokens for each in together) / seconds,
        peak_memory_bytes=max(each.peak_memory_bytes for each in runs),
        decode_ratio=_ratio(_token_ms(_samples(reference, 1, done)), _token_ms(alone)),
        throughput_ratio=_ratio(
            [each.e2e_ms for each in _samples(reference, AT_ONCE, done)], [each.e2e_ms for each in together]
        ),
        foreign_cpu_fraction=float(np.mean([each.foreign_cpu_fraction for each in runs])),
    )


def _samples(name: str, at_once: int, done: Sequence[Times]) -> list[Sample]:
    """Return a model's samples in the order of the rounds, whichever order they were measured in."""
    runs = sorted((each for each in done if (each.name, each.at_once) == (name, at_once)), key=lambda each: each.number)
    samples = [sample for each in runs for sample in each.samples]
    if len(answered(samples)) < len(samples) or not samples:
        reason = next((sample.error for sample in samples if sample.error), "it was not asked")
        raise EngineError(f"The speed of {name} is not known: {reason}.")
    return samples


def _token_ms(samples: Sequence[Sample]) -> list[float]:
    return [sample.tpot_ms or sample.e2e_ms for sample in samples]


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> Ratio:
    interval = ratio_interval(theirs, ours, paired=True)
    return Ratio(float(np.median(theirs) / np.median(ours)), interval.low, interval.high)
