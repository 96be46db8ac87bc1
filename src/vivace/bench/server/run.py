"""Bench one server by its address: a closed loop, an open loop or a trace, or the highest rate it holds."""

from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field
from msgspec.structs import replace

from vivace.bench.capacity import Capacity, Goal, lateness_ms
from vivace.bench.foreign import ForeignLoad
from vivace.bench.load import Run, Sample, closed_loop, open_loop
from vivace.bench.search import search
from vivace.bench.server.client import Target, open_target
from vivace.bench.summary import Row, answered, goodput, keeps, speed_of
from vivace.bench.traffic.arrivals import scheduled
from vivace.bench.traffic.lengths import Prose, words_of
from vivace.bench.traffic.prompts import Work, of_examples, of_file, of_length, of_trace
from vivace.bench.traffic.traces import Recorded, choose, read_trace
from vivace.config.settings import BenchSettings
from vivace.domain import Example, Interval, Progress
from vivace.domain.release import SERVICE_LEVELS
from vivace.errors import ConfigError, EngineError
from vivace.stats import proportion_interval
from vivace.store.files import append_line, read_journal

BLOCK_REQUESTS = 200
"""A longer run is measured in blocks of about so many, so that an interrupted one goes on after the last."""
WHOLE_TRACE = 10**9
WARM_TOKENS = 8


class Asked(Struct, frozen=True):
    """Which server is measured, and with what.

    Prompts come from a file, from the lengths given here, from the trace in the settings, or from the project.
    """

    url: str
    model: str = ""
    key: str = ""
    prompts: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    ignore_eos: bool = False
    requests: int = 64
    context_tokens: int | None = None


class ServerFindings(Struct, frozen=True):
    """What one run against a server came to.

    `goodput` is the share within the service level with Wilson's interval; `tokens_by` says how many answers' tokens
    the server told and how many were estimated; `late_p99_ms` is how late the load generator itself sent.
    """

    model: str
    host: str
    asked: str
    service_level: str
    row: Row
    goodput: float
    goodput_interval: Interval
    errors: dict[str, int]
    tokens_by: dict[str, int]
    cached_fraction: float
    late_p99_ms: float
    arrivals: str
    notes: tuple[str, ...] = ()
    resumed: bool = False
    samples: tuple[Sample, ...] = field(default=())


class _Part(Struct, frozen=True):
    """One measured block, a line of the journal."""

    number: int
    run: Run
    foreign: float
    tokens_by: dict[str, int]


class _Opened(Struct, frozen=True):
    target: Target
    work: Work
    recorded: tuple[Recorded, ...]


async def bench_server(
    asked: Asked,
    settings: BenchSettings,
    scratch: Path,
    progress: Progress,
    *,
    examples: Sequence[Example] = (),
    system: str = "",
) -> ServerFindings:
    """Send the load and return what it came to: an open loop with `rate` or a trace, else a closed loop.

    The first request goes out alone: where it fails, nothing is measured and `EngineError` says why. Later failures
    are counted. Finished blocks are kept in `scratch`.
    """
    async with _opened(asked, settings, progress, examples, system, asked.requests) as opened:
        target, work = opened.target, opened.work
        open_ended = settings.rate is not None or bool(opened.recorded)
        count = min(asked.requests, len(opened.recorded)) if opened.recorded else asked.requests
        journal = _journal(scratch, "blocks", asked, settings)
        parts = [msgspec.json.decode(line, type=_Part) for line in read_journal(journal)]
        resumed = bool(parts)
        requests = work.requests(count, f"run-{settings.seed}")
        times_s = [each.time_s for each in opened.recorded]
        offsets = scheduled(settings, times_s, count, settings.rate) if open_ended else []
        bounds = _bounds(count)
        with progress.task(f"Measuring {target.host}", total=count) as bar:
            bar.advance(bounds[len(parts)])
            for number in range(len(parts), len(bounds) - 1):
                chosen = slice(bounds[number], bounds[number + 1])
                foreign, before = ForeignLoad(), Counter(target.counted)
                if open_ended:
                    shifted = [offset - (offsets[chosen.start] if number else 0.0) for offset in offsets[chosen]]
                    run = await open_loop(target, requests[chosen], shifted, bar.advance)
                else:
                    run = await closed_loop(target, requests[chosen], settings.concurrency, bar.advance)
                part = _Part(number, run, foreign.fraction(), dict(target.counted - before))
                append_line(journal, msgspec.json.encode(part))
                parts.append(part)
        found = _find(parts, opened, settings, open_ended, resumed)
        journal.unlink()
        return found


async def find_server_rate(
    asked: Asked,
    settings: BenchSettings,
    goal: Goal,
    scratch: Path,
    progress: Progress,
    *,
    examples: Sequence[Example] = (),
    system: str = "",
) -> tuple[str, Capacity]:
    """Return the server's model and the highest rate at which it keeps the goal; finished probes are kept."""
    async with _opened(asked, settings, progress, examples, system, WHOLE_TRACE) as opened:
        target, work = opened.target, opened.work
        journal = _journal(scratch, "probes", asked, settings, goal)
        times_s = [each.time_s for each in opened.recorded]
        found = await search(target, work, settings, times_s, goal, journal, progress)
        journal.unlink(missing_ok=True)
        return target.settings.model, found


@asynccontextmanager
async def _opened(
    asked: Asked, settings: BenchSettings, progress: Progress, examples: Sequence[Example], system: str, most: int
) -> AsyncGenerator[_Opened, None]:
    """Reach the server, learn how long its tokens are where lengths matter, and make the requests.

    `most` requests of a trace are taken.
    """
    longest = asked.output_tokens or settings.max_tokens
    kinds = [bool(asked.prompts), asked.input_tokens is not None, bool(settings.trace)]
    if sum(kinds) > 1:
        raise ConfigError("Name one of --prompts, --input-tokens and --trace.", "Each says what the server is asked.")
    recorded: tuple[Recorded, ...] = ()
    too_long = 0
    work: Work | None = None
    if asked.prompts:
        work = of_file(Path(asked.prompts), longest, ignore_eos=asked.ignore_eos)
    elif settings.trace:
        chosen = choose(read_trace(Path(settings.trace)), most, asked.context_tokens)
        recorded, too_long = chosen.requests, chosen.too_long
    elif asked.input_tokens is None:
        if not examples:
            raise ConfigError(
                "There is nothing to ask the server: no project here, no prompts.",
                "Name --prompts FILE.jsonl, or lengths: --input-tokens 100 --output-tokens 64.",
            )
        work = of_examples(examples, longest, system, ignore_eos=asked.ignore_eos)
    async with open_target(asked.url, asked.model, asked.key) as target:
        progress.say(f"Asking {target.settings.model} at {target.host}.")
        if work is None:
            prose = Prose(words_of(examples), settings.seed)
            meter = await target.meter(prose)
            name = Path(settings.trace).name
            if recorded:
                work = of_trace(recorded, prose, meter, name, too_long, ignore_eos=asked.ignore_eos)
            else:
                assert asked.input_tokens is not None
                work = of_length(prose, meter, asked.input_tokens, longest, ignore_eos=asked.ignore_eos)
        (first,) = work.requests(1, "warm-up")
        short = replace(first.sampling, max_tokens=min(WARM_TOKENS, first.sampling.max_tokens))
        await target.try_out(replace(first, sampling=short))
        target.counted.clear()
        yield _Opened(target, work, recorded)


def _bounds(count: int) -> list[int]:
    blocks = max(1, count // BLOCK_REQUESTS)
    return [round(number * count / blocks) for number in range(blocks + 1)]


def _journal(scratch: Path, name: str, *key: Any) -> Path:
    """Return the journal of exactly this load: another one begins anew."""
    told = [
        each.model_dump(mode="json") if isinstance(each, BenchSettings) else msgspec.to_builtins(each) for each in key
    ]
    digest = sha256(msgspec.json.encode(told, order="sorted")).hexdigest()
    return scratch / f"{name}-{digest[:12]}.jsonl"


def _find(
    parts: Sequence[_Part], opened: _Opened, settings: BenchSettings, open_ended: bool, resumed: bool
) -> ServerFindings:
    runs = [part.run for part in parts]
    samples = [sample for run in runs for sample in run.samples]
    good = answered(samples)
    errors = Counter(sample.error for sample in samples if sample.error)
    if not good:
        raise EngineError(
            f"The server {opened.target.host} answered none of {len(samples)} requests: {next(iter(errors))}"
        )
    seconds = sum(run.seconds for run in runs)
    kept = sum(keeps(sample, settings.service_level) for sample in samples)
    tokens_by = sum((Counter(part.tokens_by) for part in parts), Counter[str]())
    row = Row(
        candidate=opened.target.settings.model,
        loop="open" if open_ended else "closed",
        workload=opened.work.kind,
        speed=speed_of(runs, settings.service_level, load_s=0.0, peak_memory_bytes=0),
        goodput={level: goodput(samples, level) for level in SERVICE_LEVELS},
        seconds=seconds,
        mean_completion_tokens=sum(sample.completion_tokens for sample in good) / len(good),
        foreign_cpu_fraction=sum(part.foreign * part.run.seconds for part in parts) / seconds,
        concurrency=None if open_ended else settings.concurrency,
        offered_per_s=_offered(runs) if open_ended else None,
    )
    read = sum(sample.prompt_tokens for sample in good)
    return ServerFindings(
        model=opened.target.settings.model,
        host=opened.target.host,
        asked=opened.work.told,
        service_level=settings.service_level,
        row=row,
        goodput=kept / len(samples),
        goodput_interval=proportion_interval(kept, len(samples)),
        errors=dict(errors.most_common()),
        tokens_by=dict(tokens_by),
        cached_fraction=sum(sample.cached_tokens for sample in good) / read if read else 0.0,
        late_p99_ms=lateness_ms(samples) if open_ended else 0.0,
        arrivals=settings.arrivals if open_ended else "",
        notes=_notes(opened, good, tokens_by),
        resumed=resumed,
        samples=tuple(samples),
    )


def _offered(runs: Sequence[Run]) -> float | None:
    """Return how many requests a second were to be sent."""
    last = sum(max(sample.intended_s for sample in run.samples) for run in runs)
    return sum(len(run.samples) for run in runs) / last if last > 0 else None


def _notes(opened: _Opened, good: Sequence[Sample], tokens_by: Counter[str]) -> tuple[str, ...]:
    notes = [opened.work.note] if opened.work.note else []
    if tokens_by["estimate"]:
        notes.append(
            f"The server did not tell the tokens of {tokens_by['estimate']} answers: theirs are estimated, "
            "one for each event of the stream."
        )
    wanted, real = opened.work.input_tokens, sum(sample.prompt_tokens for sample in good) / len(good)
    if wanted is not None:
        notes.append(f"Prompts of {wanted:,.0f} tokens on average were wanted; the server counted {real:,.0f}.")
    return tuple(notes)
