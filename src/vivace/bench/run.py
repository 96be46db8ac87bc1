"""Measure candidates side by side: one works at a time, in interleaved blocks."""

import gc
from collections.abc import AsyncGenerator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from msgspec import Struct, to_builtins
from msgspec.structs import replace

from vivace.bench.blocks import Block, Finished, finished_blocks, plan, remember, requests_of
from vivace.bench.capacity import Capacity, Goal
from vivace.bench.foreign import ForeignLoad
from vivace.bench.load import Run, closed_loop, open_loop
from vivace.bench.report import Findings, against_the_machine, find, write
from vivace.bench.roofline import roofline
from vivace.bench.search import search
from vivace.bench.summary import answered
from vivace.bench.traffic.arrivals import scheduled
from vivace.bench.traffic.lengths import Meter, Prose, fit, replayed, words_of
from vivace.bench.traffic.prompts import of_examples, of_trace
from vivace.bench.traffic.traces import Chosen, choose, read_trace
from vivace.chain import stack
from vivace.config.settings import BenchSettings
from vivace.domain import Candidate, Example, Message, Request, Responder, Sampling, Task, Workspace
from vivace.engines import Engine, open_engine
from vivace.errors import EngineError, ResourceError, VivaceError

WARMUP_REQUESTS = 2
WARMUP_TOKENS = 4


class Opened(Struct):
    """A candidate whose engine is loaded and warm."""

    engine: Engine
    responder: Responder


async def bench(
    candidates: Sequence[Candidate],
    examples: Sequence[Example],
    settings: BenchSettings,
    workspace: Workspace,
    *,
    threads: int | None = None,
    opened_with: Mapping[str, Mapping[str, Any]] = MappingProxyType({}),
) -> dict[str, Any]:
    """Measure and write `speed.json`, `rows.json`, `ratios.json`, `requests.jsonl` and `report.md`.

    Finished blocks are kept in the workspace's scratch folder, so an interrupted run goes on after the last one. A
    candidate that cannot be opened or that dies is left out and named in the facts; raises `EngineError` if that
    happens to all of them, and `DataError` without examples. `opened_with` are options of engines, by candidate;
    `threads` wins over theirs.
    """
    baseline = next((candidate.name for candidate in candidates if candidate.role == "baseline"), None)
    natural = {each.name for each in candidates if not _keeps_length(each)}
    blocks = plan([candidate.name for candidate in candidates], baseline, settings, natural)
    requests = {block.key: requests_of(block, examples, settings) for block in blocks}
    journal = workspace.scratch / "blocks.jsonl"
    finished = finished_blocks(journal)
    left = [block for block in blocks if block.key not in finished]
    resumed = bool(finished)
    unmeasured: dict[str, str] = {}
    if left:
        async with _opened(candidates, threads, workspace, unmeasured, opened_with) as opened:
            await _warm_up(opened, requests[blocks[0].key], unmeasured, natural)
            total = sum(len(requests[block.key]) * len(block.names) for block in left)
            with workspace.progress.task("Measuring speed", total=total) as bar:
                for block in left:
                    block_requests = requests[block.key]
                    rates = _rates(block, finished, settings)
                    record = await _measure(block, block_requests, opened, rates, settings, bar, unmeasured)
                    remember(journal, record)
                    finished[block.key] = record
    findings = find(list(candidates), baseline, [finished[block.key] for block in blocks], settings)
    findings = replace(findings, unmeasured=findings.unmeasured | unmeasured, resumed=resumed and bool(left))
    if not findings.speeds:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in findings.unmeasured.items())
        raise EngineError(f"No candidate could be measured ({reasons}).")
    findings = _with_roofline(findings, candidates, [finished[block.key] for block in blocks], settings)
    write(findings, settings, workspace.out)
    return _facts(findings)


def _with_roofline(
    findings: Findings, candidates: Sequence[Candidate], blocks: Sequence[Finished], settings: BenchSettings
) -> Findings:
    try:
        roof = roofline()
    except ResourceError:
        return findings  # a machine that is full was still measured under load
    near = against_the_machine(candidates, blocks, roof, min(settings.concurrency, settings.requests))
    return replace(findings, roofline=roof, nearness=near)


@asynccontextmanager
async def _opened(
    candidates: Sequence[Candidate],
    threads: int | None,
    workspace: Workspace,
    unmeasured: dict[str, str],
    opened_with: Mapping[str, Mapping[str, Any]],
) -> AsyncGenerator[dict[str, Opened], None]:
    opened: dict[str, Opened] = {}
    async with AsyncExitStack() as exits:
        with workspace.progress.task("Opening engines", total=len(candidates)) as bar:
            for candidate in candidates:
                bar.note(candidate.name)
                # Off: the same prompts come again in the next block, and a hit would flatter whoever keeps them.
                options = {**opened_with.get(candidate.name, {})} | ({} if threads is None else {"threads": threads})
                context = open_engine(candidate.engine, candidate.model, prefix_cache=False, **options)
                try:
                    engine = await exits.enter_async_context(context)
                except VivaceError as error:
                    unmeasured[candidate.name] = str(error)
                    workspace.progress.say(f"{candidate.name} is not measured: {error}")
                else:
                    opened[candidate.name] = Opened(engine, stack(engine, candidate.chain))
                bar.advance()
        yield opened


def _keeps_length(candidate: Candidate) -> bool:
    """Tell whether a candidate can be made to go on until an answer has so many tokens."""
    if candidate.model.format != "remote":
        return True
    from vivace.engines.remote import read_provider

    return read_provider(candidate.model.path).ignore_eos


async def _warm_up(
    opened: dict[str, Opened], requests: Sequence[Any], unmeasured: dict[str, str], natural: Collection[str]
) -> None:
    for name, item in opened.items():
        sampling = Sampling(max_tokens=WARMUP_TOKENS, ignore_eos=name not in natural)
        short = [
            replace(request, id=f"warm-up/{request.id}", sampling=sampling) for request in requests[:WARMUP_REQUESTS]
        ]
        run = await closed_loop(item.responder, short, WARMUP_REQUESTS, lambda: None)
        _note_death(name, item, run, unmeasured)


async def _measure(
    block: Block,
    requests: Sequence[Any],
    opened: dict[str, Opened],
    rates: dict[str, float],
    settings: BenchSettings,
    bar: Task,
    unmeasured: dict[str, str],
) -> Finished:
    record = Finished(block.key, {}, offered_per_s=rates)
    for name in block.names:
        item = opened.get(name)
        if item is None or name in unmeasured or (block.loop == "open" and name not in rates):
            bar.advance(len(requests))
            continue
        bar.note(f"{name}, {block.loop} loop, {block.workload} answers")
        gc.collect()
        foreign = ForeignLoad()
        if block.loop == "open":
            asked, times_s = _open_requests(item, requests, settings)
            rate = None if settings.speed_up else rates[name]
            offsets_s = scheduled(settings, times_s, len(asked), rate)
            run = await open_loop(item.responder, asked, offsets_s, bar.advance)
        else:
            run = await closed_loop(item.responder, requests, settings.concurrency, bar.advance)
        record.foreign[name] = foreign.fraction()
        record.runs[name] = run
        record.load_s[name] = item.engine.load_s
        record.peak_memory_bytes[name] = item.engine.peak_memory_bytes()
        _note_death(name, item, run, unmeasured)
    return record


def _open_requests(
    item: Opened, requests: Sequence[Request], settings: BenchSettings
) -> tuple[list[Request], list[float]]:
    """Return what the open loop asks and when it was recorded: prompts of a trace's lengths where one is set."""
    if not settings.trace:
        return list(requests), []
    chosen = _recorded(settings, item.engine.context_length, len(requests)).requests
    examples = [Example(request.id, (*request.messages, Message("assistant", ""))) for request in requests]
    made = replayed(chosen, *_writing(item.engine, examples, settings), requests[0].id)
    return made, [each.time_s for each in chosen]


async def find_candidate_rate(
    candidate: Candidate,
    examples: Sequence[Example],
    settings: BenchSettings,
    goal: Goal,
    workspace: Workspace,
    *,
    threads: int | None = None,
) -> Capacity:
    """Return the highest rate at which a candidate keeps the goal, asked with the test conversations; cache off."""
    async with open_engine(candidate.engine, candidate.model, threads=threads, prefix_cache=False) as engine:
        responder = stack(engine, candidate.chain)
        work = of_examples(examples, settings.max_tokens)
        times_s: tuple[float, ...] = ()
        if settings.trace:
            chosen = _recorded(settings, engine.context_length, None)
            work = of_trace(chosen.requests, *_writing(engine, examples, settings), "the trace", chosen.too_long)
            times_s = tuple(each.time_s for each in chosen.requests)
        journal = workspace.scratch / "probes.jsonl"
        return await search(responder, work, settings, times_s, goal, journal, workspace.progress)


def _recorded(settings: BenchSettings, context_tokens: int, count: int | None) -> Chosen:
    recorded = read_trace(Path(settings.trace))
    return choose(recorded, len(recorded) if count is None else count, context_tokens)


def _writing(engine: Engine, examples: Sequence[Example], settings: BenchSettings) -> tuple[Prose, Meter]:
    """Return the project's words and what they come to in the engine's vocabulary."""
    prose = Prose(words_of(examples), settings.seed)
    return prose, fit(*(len(engine.tokenizer.encode_chat((Message("user", text),))) for text in prose.trials()))


def _note_death(name: str, item: Opened, run: Run, unmeasured: dict[str, str]) -> None:
    if not item.engine.alive:
        errors = [sample.error for sample in run.samples if sample.error]
        unmeasured[name] = errors[0] if errors else "its engine ended"


def _rates(block: Block, finished: dict[str, Finished], settings: BenchSettings) -> dict[str, float]:
    """Return the open loop's requests per second: as set, or half of what the closed loop completed."""
    if block.loop == "closed":
        return {}
    if settings.rate is not None:
        return dict.fromkeys(block.names, settings.rate)
    rates = {}
    for name in block.names:
        runs = [
            record.runs[name]
            for key, record in finished.items()
            if key.startswith("closed/natural/") and name in record.runs
        ]
        completed = sum(len(answered(run.samples)) for run in runs)
        if completed:
            rates[name] = completed / sum(run.seconds for run in runs) / 2
    return rates


def _facts(findings: Findings) -> dict[str, Any]:
    facts: dict[str, Any] = to_builtins(
        {
            "speeds": {
                name: {
                    "ttft_p95_ms": speed.ttft.p95_ms.value,
                    "tpot_p95_ms": speed.tpot.p95_ms.value,
                    "e2e_p50_ms": speed.e2e.p50_ms.value,
                    "output_tokens_per_s": speed.output_tokens_per_s,
                    "requests_per_s": speed.requests_per_s,
                    "goodput_fraction": speed.goodput_fraction,
                    "peak_memory_bytes": speed.peak_memory_bytes,
                }
                for name, speed in findings.speeds.items()
            },
            "ratios": findings.ratios,
            "foreign_cpu_fraction": findings.foreign_cpu_fraction,
            "noise": findings.noise,
            "unmeasured": findings.unmeasured,
            "roofline": {near.candidate: near for near in findings.nearness},
            "resumed": findings.resumed,
        }
    )
    return facts
