"""Find how an engine is best set on this machine: threads, requests at once, cache precision, portions of prompts.

Settings are tried on the project's own prompts, in rounds that keep the better third (successive halving: Jamieson and
Talwalkar 2016, https://arxiv.org/abs/1502.07943). The last ones are measured against the default in interleaved blocks,
and win only where the advantage is beyond chance.
"""

import asyncio
import hashlib
import math
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import product
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from vivace.bench.foreign import NOISY_ABOVE, ForeignLoad
from vivace.bench.load import Run, closed_loop
from vivace.chain import stack
from vivace.domain import Candidate, Example, Interval, Message, Progress, Request, Responder, Sampling, Task
from vivace.domain.release import SERVICE_LEVELS
from vivace.engines import engine_threads, open_engine
from vivace.errors import ConfigError, DataError, EngineError, VivaceError
from vivace.loop import stages
from vivace.loop.engines import own_exports
from vivace.loop.machine import Machine, this_machine
from vivace.loop.project import Project, open_project
from vivace.loop.tuned import Aim, Tuned, Tuning
from vivace.stats import bootstrap_mean, quantile_interval
from vivace.store import read_examples
from vivace.store.files import append_line, read_journal, write_atomic

UNITS: dict[Aim, str] = {"latency": "ms", "throughput": "tokens/s", "goodput": "requests/s"}
DEFAULT_BATCH = 32
ROUNDS = ((1, 12), (1, 24), (2, 24))
"""Of each round of the search: how many times the concurrency is sent, and how many tokens are written."""
KEEP = 3  # the better third goes on
FINALISTS = 2
BLOCKS = 6
FINAL_TOKENS = 24
_OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    # One thing at a time around the default: the things hardly depend on one another, and each costs minutes.
    "openvino": (
        {},
        {"kv_cache_precision": "f16"},
        {"max_num_batched_tokens": 64},
        {"max_num_batched_tokens": 1024},
    ),
    "llamacpp": ({}, {"n_batch": 64}, {"n_batch": 1024}),
}


class Setting(Struct, frozen=True):
    """A candidate on its engine, set in one way."""

    candidate: str
    threads: int
    max_batch: int = DEFAULT_BATCH
    options: dict[str, Any] = {}

    @property
    def key(self) -> str:
        """The same for the same setting."""
        return f"{self.candidate}/{self.threads}/{self.max_batch}/{msgspec.json.encode(self.options).decode()}"


class Trial(Struct, frozen=True):
    """One measurement: `place` is its round or block, `e2e_ms` are the answers' times, `good` how many were in time."""

    key: str
    place: str
    seconds: float = 0.0
    tokens: int = 0
    good: int = 0
    e2e_ms: tuple[float, ...] = ()
    foreign: float = 0.0
    error: str = ""


class _Plan(Struct):
    """What a search works with."""

    candidates: dict[str, Candidate]
    prompts: list[tuple[Message, ...]]
    aim: Aim
    concurrency: int
    limits: tuple[float, float]
    journal: Path
    done: dict[tuple[str, str], Trial]
    until: float
    cut: bool = False


def tune(
    start: Path,
    progress: Progress,
    *,
    aim: Aim = "latency",
    names: Sequence[str] = (),
    minutes: float = 15.0,
    again: bool = False,
    changes: Iterable[str] = (),
) -> Tuning:
    """Tune the project's exports for this machine and remember it; interrupted, the same call goes on.

    After `minutes` nothing new is begun: what was found by then is compared with the default. `again` measures anew.
    """
    with open_project(start, progress, changes=changes) as project:
        candidates = _candidates(project, names)
        dataset = next(iter(project.store.artifacts("data")), None)
        if dataset is None:
            raise DataError("There are no conversations to measure with.", "Run `vivace data` first.")
        examples = list(read_examples(dataset.path / "examples.jsonl", "validation"))
        if not examples:
            raise DataError("The dataset has no validation conversations to measure with.")
        machine = this_machine()
        concurrency = 1 if aim == "latency" else project.settings.bench.concurrency
        told = [machine.fingerprint, aim, str(concurrency), project.settings.bench.service_level, dataset.id]
        told += [item.model.artifact_id for item in candidates.values()]
        folder = project.store.root / "tuning"
        path = folder / f"{hashlib.sha256(' '.join(told).encode()).hexdigest()[:24]}.json"
        if path.is_file() and not again:
            return msgspec.structs.replace(msgspec.json.decode(path.read_bytes(), type=Tuning), reused=True)
        folder.mkdir(parents=True, exist_ok=True)
        journal = path.with_suffix(".jsonl")
        if again and path.is_file():
            path.unlink()
            journal.unlink(missing_ok=True)
        done = [msgspec.json.decode(line, type=Trial) for line in read_journal(journal)]
        plan = _Plan(
            candidates, _prompts(examples), aim, concurrency, SERVICE_LEVELS[project.settings.bench.service_level],
            journal, {(each.key, each.place): each for each in done}, time.monotonic() + minutes * 60,
        )  # fmt: skip
        found = asyncio.run(_tune(plan, project.settings.serve.threads, machine, progress))
        write_atomic(path, msgspec.json.format(msgspec.json.encode(found), indent=1))
        journal.unlink(missing_ok=True)
        return found


def grid(item: Candidate, aim: Aim, concurrency: int, default: Setting) -> list[Setting]:
    """Return the settings to try, the default first."""
    cores = engine_threads()
    threads = sorted({1, max(1, cores // 2), cores, default.threads})
    batches = [DEFAULT_BATCH] if aim == "latency" else sorted({max(1, concurrency // 2), concurrency, DEFAULT_BATCH})
    options = _OPTIONS.get(item.engine, ({},))
    every = [Setting(item.name, *each) for each in product(threads, batches, options)]
    return [default, *(each for each in every if each != default)]


async def _tune(plan: _Plan, threads: int | None, machine: Machine, progress: Progress) -> Tuning:
    grids = {}
    for name, item in plan.candidates.items():
        grids[name] = grid(item, plan.aim, plan.concurrency, Setting(name, engine_threads(threads)))
    tuned = []
    with progress.task("Tuning", total=sum(_steps(len(settings)) for settings in grids.values())) as bar:
        for settings in grids.values():
            try:
                finalists = await _halve(plan, settings, bar)
                trials = await _compare(plan, finalists, bar)
                tuned.append(_judge(plan, finalists, trials, len(settings)))
            except VivaceError as error:
                tuned.append(_failed(plan, settings[0], str(error)))
    if all(each.error for each in tuned):
        raise EngineError(f"Nothing could be measured: {tuned[0].error}")
    notes = []
    foreign = float(np.median([each.foreign for each in plan.done.values()])) if plan.done else 0.0
    if foreign > NOISY_ABOVE:
        notes.append(f"Other programs used {foreign:.0%} of the processor meanwhile: measure again when it is quiet.")
    if plan.cut:
        notes.append("The time was up before all settings were tried: --minutes gives it more.")
    return Tuning(machine, plan.aim, plan.concurrency, tuple(tuned), " ".join(notes))


async def _halve(plan: _Plan, settings: list[Setting], bar: Task) -> list[Setting]:
    """Return the default and the settings that came through all rounds."""
    default, left = settings[0], settings
    for number, (times, tokens) in enumerate(ROUNDS):
        if len(left) <= FINALISTS + 1 and number:
            break
        scores: dict[str, float] = {}
        for setting in left if number % 2 == 0 else left[::-1]:
            if time.monotonic() > plan.until and len(scores) >= FINALISTS + 1:
                plan.cut = True
                break
            trial = await _trial(plan, setting, f"round {number}", times, tokens, bar)
            if not trial.error:
                scores[setting.key] = _score(plan.aim, trial)
        if not scores:
            first = plan.done[(left[0].key, f"round {number}")]
            raise EngineError(first.error or "nothing was measured")
        ranked = sorted((each for each in left if each.key in scores), key=lambda each: -scores[each.key])
        left = ranked[: max(FINALISTS, math.ceil(len(ranked) / KEEP))]
    best = [each for each in left if each != default][:FINALISTS]
    return [default, *best]


async def _trial(plan: _Plan, setting: Setting, place: str, times: int, tokens: int, bar: Task) -> Trial:
    """Open the engine in this setting, measure, and note it; one that does not open or answer is noted, too."""
    if (known := plan.done.get((setting.key, place))) is not None:
        bar.advance()
        return known
    bar.note(_words(setting))
    try:
        async with _opened(plan, setting) as responder:
            trial = await _measure(plan, setting, responder, place, times, tokens)
    except VivaceError as error:
        trial = Trial(setting.key, place, error=str(error))
    return _note(plan, trial, bar)


async def _compare(plan: _Plan, finalists: list[Setting], bar: Task) -> dict[str, list[Trial]]:
    """Measure the finalists in interleaved blocks, all engines open, one at work."""
    trials: dict[str, list[Trial]] = {each.key: [] for each in finalists}
    places = [f"block {number}" for number in range(BLOCKS)]
    if all((each.key, place) in plan.done for each in finalists for place in places):
        return {each.key: [plan.done[(each.key, place)] for place in places] for each in finalists}
    async with AsyncExitStack() as exits:
        opened = {each.key: await exits.enter_async_context(_opened(plan, each)) for each in finalists}
        for number, place in enumerate(places):
            for setting in finalists if number % 2 == 0 else finalists[::-1]:
                bar.note(_words(setting))
                trial = plan.done.get((setting.key, place))
                if trial is None:
                    times = 2 if plan.concurrency == 1 else 1
                    trial = await _measure(plan, setting, opened[setting.key], place, times, FINAL_TOKENS)
                    _note(plan, trial, bar)
                if trial.error:
                    raise EngineError(trial.error)
                trials[setting.key].append(trial)
    return trials


@asynccontextmanager
async def _opened(plan: _Plan, setting: Setting) -> AsyncGenerator[Responder, None]:
    """Open an engine without a cache that a repeated prompt would profit from, and warm it up."""
    item = plan.candidates[setting.candidate]
    async with open_engine(
        item.engine, item.model, threads=setting.threads, max_batch=setting.max_batch, prefix_cache=False,
        options=setting.options,
    ) as engine:  # fmt: skip
        responder = stack(engine, item.chain)
        warm = Request("warm-up", plan.prompts[0], sampling=Sampling(max_tokens=4, ignore_eos=True))
        await closed_loop(responder, [warm], 1, lambda: None)
        yield responder


async def _measure(plan: _Plan, setting: Setting, responder: Responder, place: str, times: int, tokens: int) -> Trial:
    """Send the same requests to every setting that is measured in the same place."""
    count = times * plan.concurrency if plan.concurrency > 1 else 2 * times
    first = int(hashlib.sha256(place.encode()).hexdigest(), 16) % len(plan.prompts)
    sampling = Sampling(max_tokens=tokens, ignore_eos=True)
    requests = [
        Request(f"{place}/{number}", plan.prompts[(first + number) % len(plan.prompts)], sampling=sampling)
        for number in range(count)
    ]
    foreign = ForeignLoad()
    run = await closed_loop(responder, requests, plan.concurrency, lambda: None)
    return _told(plan, setting, place, run, foreign.fraction())


def _told(plan: _Plan, setting: Setting, place: str, run: Run, foreign: float) -> Trial:
    if failed := next((sample.error for sample in run.samples if sample.error), None):
        return Trial(setting.key, place, error=failed)
    ttft_ms, tpot_ms = plan.limits
    good = sum((each.ttft_ms or 0) <= ttft_ms and (each.tpot_ms or 0) <= tpot_ms for each in run.samples)
    tokens = sum(each.completion_tokens for each in run.samples)
    e2e = tuple(each.e2e_ms for each in run.samples)
    return Trial(setting.key, place, run.seconds, tokens, good, e2e, foreign)


def _note(plan: _Plan, trial: Trial, bar: Task) -> Trial:
    append_line(plan.journal, msgspec.json.encode(trial))
    plan.done[(trial.key, trial.place)] = trial
    bar.advance()
    return trial


def _score(aim: Aim, trial: Trial) -> float:
    """Return how good a trial is, more is better."""
    if aim == "latency":
        return 1e3 / float(np.median(trial.e2e_ms))
    return (trial.tokens if aim == "throughput" else trial.good) / trial.seconds


def _judge(plan: _Plan, finalists: list[Setting], trials: dict[str, list[Trial]], tried: int) -> Tuned:
    """Compare the best finalist with the default; it wins where the interval of the ratio is above 1.

    Which finalist is the best is decided on the first half of the blocks, and how good it is on the second: the best
    of several would else look better than it is.
    """
    default, *others = finalists
    half = BLOCKS // 2
    means = {
        each.key: float(np.mean([_score(plan.aim, trial) for trial in trials[each.key][:half]])) for each in others
    }
    best = max(others, key=lambda each: means[each.key], default=default)
    ratio, interval = _ratio(plan.aim, trials[best.key][half:], trials[default.key][half:])
    changed = best != default and interval is not None and interval.low > 1
    chosen = best if changed else default
    value, around = _value(plan.aim, trials[chosen.key])
    before, _ = _value(plan.aim, trials[default.key])
    item = plan.candidates[chosen.candidate]
    return Tuned(
        chosen.candidate, item.engine, item.model.artifact_id, plan.aim, chosen.threads, chosen.max_batch,
        chosen.options, value, around, UNITS[plan.aim], ratio, interval, changed, tried, before,
    )  # fmt: skip


def _ratio(aim: Aim, ours: Sequence[Trial], theirs: Sequence[Trial]) -> tuple[float, Interval] | tuple[None, None]:
    """Return how many times better ours are, as a geometric mean over pairs of the same requests."""
    if aim == "latency":
        pairs = [(b, a) for x, y in zip(ours, theirs, strict=True) for a, b in zip(x.e2e_ms, y.e2e_ms, strict=True)]
    else:
        pairs = [(_score(aim, x), _score(aim, y)) for x, y in zip(ours, theirs, strict=True)]
    if any(a <= 0 or b <= 0 for a, b in pairs):
        return None, None  # nobody was in time: nothing to compare
    logs = [math.log(a / b) for a, b in pairs]
    around = bootstrap_mean(logs)
    return math.exp(float(np.mean(logs))), Interval(math.exp(around.low), math.exp(around.high), around.level)


def _value(aim: Aim, trials: Sequence[Trial]) -> tuple[float, Interval]:
    if aim == "latency":
        times = [each for trial in trials for each in trial.e2e_ms]
        return float(np.median(times)), quantile_interval(times, 0.5)
    scores = [_score(aim, trial) for trial in trials]
    return float(np.mean(scores)), bootstrap_mean(scores)


def _failed(plan: _Plan, setting: Setting, error: str) -> Tuned:
    item = plan.candidates[setting.candidate]
    nothing = Interval(0.0, 0.0)
    return Tuned(
        setting.candidate, item.engine, item.model.artifact_id, plan.aim, setting.threads, setting.max_batch, {},
        0.0, nothing, UNITS[plan.aim], None, None, changed=False, tried=0, default_value=0.0, error=error,
    )  # fmt: skip


def _candidates(project: Project, names: Sequence[str]) -> dict[str, Candidate]:
    """Return the project's newest export of each kind as a candidate."""
    found = {}
    for kind, model in own_exports(project).items():
        found[kind] = stages.candidate(project, kind, model)
    if not found:
        raise DataError("The project has no exports yet.", "Make them with `vivace compress`.")
    for name in names:
        if name not in found:
            raise ConfigError(f"There is no export {name!r}.", f"There are: {', '.join(found)}.")
    return {name: item for name, item in found.items() if not names or name in names}


def _prompts(examples: Sequence[Example]) -> list[tuple[Message, ...]]:
    return [example.prompt for example in examples]


def _steps(settings: int) -> int:
    """Return how many measurements a search of so many settings takes at most."""
    total, left = 0, settings
    for number in range(len(ROUNDS)):
        if left <= FINALISTS + 1 and number:
            break
        total += left
        left = max(FINALISTS, math.ceil(left / KEEP))
    return total + BLOCKS * min(settings, FINALISTS + 1)


def _words(setting: Setting) -> str:
    options = " ".join(f"{name}={value}" for name, value in setting.options.items())
    return f"{setting.candidate}, {setting.threads} threads, at most {setting.max_batch} {options}".rstrip()
