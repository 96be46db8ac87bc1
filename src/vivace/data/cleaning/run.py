"""Run all steps over a corpus: row steps that follow one another in one pass, corpus steps between."""

import os
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

from vivace.config.data import DataSettings
from vivace.data.cleaning.batch import Cleaned, Cleaner, Plan, new_trail
from vivace.data.cleaning.pool import Pool
from vivace.data.corpus import Corpus, Spool
from vivace.data.corpus.spool import batches
from vivace.data.privacy.redaction import Redactor
from vivace.data.steps import STEPS, CorpusStep
from vivace.data.trail import StepTrail
from vivace.domain import Progress
from vivace.store.files import disk_errors

BATCH_ROWS = 256
SMALL = 3000  # rows that one process has cleaned before others have started


def clean_corpus(
    corpus: Corpus, settings: DataSettings, folder: Path, drops: Path, progress: Progress
) -> tuple[Corpus, list[StepTrail]]:
    """Return the cleaned corpus (in `folder`) and what each step did; dropped rows are appended to the file `drops`.

    Raises `ConfigError` for an unknown step or settings that a step refuses, before any row is looked at.
    """
    redactor = Redactor(settings) if "personal" in settings.steps else None
    passes = plan_passes(settings)
    for plan in passes:
        if isinstance(plan, Plan):
            Cleaner(plan)
    trails: list[StepTrail] = []
    for number, plan in enumerate(passes):
        if isinstance(plan, Plan):
            found = [new_trail(name, redactor) for name in plan.steps]
            dropped = [Spool(folder / f"pass-{number}-{name}.drops") for name in plan.steps]
            corpus = _sweep(corpus, plan, found, dropped, Corpus(folder, f"pass-{number}"), progress)
            for spool in dropped:
                append_drops(drops, spool)
                spool.close()
            trails += found
        else:
            name, step = plan
            redacted = "personal" in settings.steps[: settings.steps.index(name)]
            trail = new_trail(name, None if redacted else redactor)
            trail.rows_in = len(corpus)
            with progress.task(name.replace("_", " ").capitalize(), total=None):
                step.open(settings)(corpus, trail)
            trail.rows_out = len(corpus)
            append_drops(drops, corpus.drops)
            trails.append(trail)
    return corpus, trails


def plan_passes(settings: DataSettings) -> list[Plan | tuple[str, CorpusStep]]:
    """Return what is run one after another; the last pass over rows labels them, and there is one at least."""
    kinds = [(name, STEPS.load(name)) for name in settings.steps]
    passes: list[Plan | tuple[str, CorpusStep]] = []
    for is_corpus, members in groupby(kinds, key=lambda item: isinstance(item[1], CorpusStep)):
        if is_corpus:
            if not passes:
                passes.append(Plan(settings, (), label=False))
            passes += list(members)
        else:
            passes.append(Plan(settings, tuple(name for name, _step in members), label=False))
    last = max((place for place, plan in enumerate(passes) if isinstance(plan, Plan)), default=None)
    if last is None:
        return [Plan(settings, (), label=True)]
    steps = passes[last].steps if isinstance(passes[last], Plan) else ()  # type: ignore[union-attr]
    passes[last] = Plan(settings, steps, label=True)
    return passes


def _sweep(
    corpus: Corpus, plan: Plan, trails: list[StepTrail], drops: list[Spool], target: Corpus, progress: Progress
) -> Corpus:
    workers = plan.settings.workers or (os.cpu_count() or 1)
    total = len(corpus)
    with ExitStack() as stack, progress.task("Cleaning", total=total) as bar:
        work = batches(corpus.records(), BATCH_ROWS)
        cleaned: Iterable[Cleaned]
        if workers == 1 or total < SMALL:
            cleaner = Cleaner(plan)
            cleaned = map(cleaner.clean, work)
        else:
            cleaned = stack.enter_context(Pool(plan, workers)).map(work)
        for done in cleaned:
            target.extend(done.rows, done.sketches)
            for trail, counts in zip(trails, done.counts, strict=True):
                trail.add(counts)
            for spool, lines in zip(drops, done.drops, strict=True):
                spool.extend(lines)
            bar.advance(min(BATCH_ROWS, total))
    corpus.close()
    return target.seal()


def append_drops(path: Path, drops: Spool) -> None:
    """Move dropped rows to the end of the file that has those of all steps."""
    drops.sync()
    with disk_errors(path), open(path, "ab") as file:
        file.writelines(drops.records())
    drops.clear()
