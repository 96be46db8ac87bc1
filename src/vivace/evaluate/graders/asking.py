"""Graders that ask a model: a score or a label, read from what it says."""

import asyncio
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.chain import answer
from vivace.config.grader import GraderMessage, GraderSampling, LabelModelGrader, ScoreModelGrader
from vivace.domain import Message, Progress, Request, Responder, Sampling, SilentProgress
from vivace.errors import ConfigError, EngineDied, VivaceError
from vivace.evaluate.graders.case import Case, Grade
from vivace.evaluate.graders.template import NotSaid, Template, parse_template
from vivace.evaluate.metrics.json_validity import read_json
from vivace.store.files import append_line, read_journal
from vivace.text import normalize_words

Opened = Callable[[str], AbstractAsyncContextManager[Responder]]
"""opened(name): open a model that grades, by the name that the grader has for it."""

_NUMBER = r"[-+]?\d+(?:[.,]\d+)?"
_TOLD = re.compile(rf"(?:score|rating|grade|result|punktzahl|note)\W{{0,12}}(?:is\W+|of\W+)?({_NUMBER})", re.IGNORECASE)
_FIRST = re.compile(rf"\W*({_NUMBER})\b")
_KEYS = ("result", "score", "rating", "grade", "label")
_SHOWN = 80


class Said(Struct, frozen=True):
    """One line of the journal: what a model said when it was asked so."""

    key: str
    text: str


class Examiner:
    """Asks models, a group at a time, and keeps what they said in a journal."""

    def __init__(
        self, opened: Opened | None, journal: Path | None, progress: Progress | None = None, concurrency: int = 16
    ) -> None:
        self._opened = opened
        self._journal = journal
        self._progress = progress or SilentProgress()
        self._concurrency = concurrency
        decoder = msgspec.json.Decoder(Said)
        lines = map(decoder.decode, read_journal(journal)) if journal is not None else ()
        self._known = {line.key: line.text for line in lines}

    async def grades(self, grader: ScoreModelGrader | LabelModelGrader, cases: Sequence[Case]) -> list[Grade]:
        """Return a grade per case, or the sentence that says why there is none; failed answers get the lowest."""
        lowest, read = _reader(grader)
        templates = message_templates(grader)
        requests: dict[str, Request] = {}
        asked: list[str | None] = []
        for case in cases:
            request = None if case.failed else _request(grader, templates, case)
            key = None if request is None else _key(grader.model, request)
            asked.append(key)
            if key is not None and request is not None and key not in self._known:
                requests[key] = msgspec.structs.replace(request, id=key)
        if requests:
            await self._ask(grader, list(requests.items()))
        return [
            lowest if key is None else read(self._known[key], f"{grader.name!r} on example {case.id!r}")
            for key, case in zip(asked, cases, strict=True)
        ]

    async def _ask(self, grader: ScoreModelGrader | LabelModelGrader, requests: Sequence[tuple[str, Request]]) -> None:
        if self._opened is None:
            raise ConfigError(f"The grader {grader.name!r} asks a model, and there is none to be asked here.")
        async with self._opened(grader.model) as responder:
            with self._progress.task(f"Grading: {grader.name}", total=len(requests)) as bar:
                for start in range(0, len(requests), self._concurrency):
                    group = requests[start : start + self._concurrency]
                    said = await asyncio.gather(*(_ask(responder, request) for _, request in group))
                    for (key, _), text in zip(group, said, strict=True):
                        self._known[key] = text
                        if self._journal is not None:
                            append_line(self._journal, msgspec.json.encode(Said(key, text)))
                    bar.advance(len(group))


def message_templates(grader: ScoreModelGrader | LabelModelGrader) -> list[tuple[GraderMessage, Template]]:
    """Return the turns with their texts parsed; raises `ConfigError` for a hole that names nothing."""
    where = f"The input of grader {grader.name!r}"
    return [(turn, parse_template(turn.content, where)) for turn in grader.input]


def _request(
    grader: ScoreModelGrader | LabelModelGrader, templates: Sequence[tuple[GraderMessage, Template]], case: Case
) -> Request | None:
    """Return what the model is asked; None where the answer lacks what the question shows."""
    try:
        turns = tuple(Message(turn.role, template.fill(case)) for turn, template in templates)
    except NotSaid:
        return None
    chosen: GraderSampling = grader.sampling_params
    sampling = Sampling(
        max_tokens=chosen.max_completions_tokens,
        temperature=chosen.temperature,
        top_p=chosen.top_p,
        seed=chosen.seed if chosen.seed is not None else (0 if chosen.temperature else None),
    )
    return Request("", turns, sampling=sampling)


def _key(model: str, request: Request) -> str:
    asked = msgspec.json.encode((model, request.messages, request.sampling), order="deterministic")
    return hashlib.sha256(asked).hexdigest()


async def _ask(responder: Responder, request: Request) -> str:
    try:
        return (await answer(responder, request)).answer.content
    except EngineDied:
        raise
    except VivaceError as error:
        return f"\0{error}"  # no model says NUL: told as the reason why there is no grade


def _reader(grader: ScoreModelGrader | LabelModelGrader) -> tuple[float, Callable[[str, str], Grade]]:
    if isinstance(grader, ScoreModelGrader):
        low, high = grader.range
        return low, lambda text, who: _read_score(text, low, high, who)
    labels, passing = grader.labels, grader.passing_labels
    return 0.0, lambda text, who: _read_label(text, labels, passing, who)


def _read_score(text: str, low: float, high: float, who: str) -> Grade:
    if text.startswith("\0"):
        return f"The model could not grade for {who}: {text[1:]}"
    said: Any = _value(text)
    if not isinstance(said, (int, float)) or isinstance(said, bool):
        words = said if isinstance(said, str) else text
        found = _TOLD.search(words) or _FIRST.match(words)
        said = float(found[1].replace(",", ".")) if found else None
    if said is None:
        return f"The model gave no number for {who}: {_shown(text)}"
    if not low <= said <= high:
        return f"The model gave {said:g} for {who}, outside {low:g} to {high:g}: {_shown(text)}"
    return float(said)


def _read_label(text: str, labels: Sequence[str], passing: Sequence[str], who: str) -> Grade:
    if text.startswith("\0"):
        return f"The model could not grade for {who}: {text[1:]}"
    said = _value(text)
    words = f" {' '.join(normalize_words(said if isinstance(said, str) else text))} "
    spoken = {label: f" {' '.join(normalize_words(label))} " for label in labels}
    exact = [label for label in labels if spoken[label] == words]
    held = exact or [label for label in labels if spoken[label].strip() and spoken[label] in words]
    told = [label for label in held if not any(spoken[label] in spoken[other] for other in held if other != label)]
    if len(told) != 1:
        return f"The model gave {'no' if not told else 'more than one'} label for {who}: {_shown(text)}"
    return float(told[0] in passing)


def _value(text: str) -> Any:
    """Return what a JSON answer holds, as a model that writes structured output answers; None for other texts."""
    try:
        value = read_json(text)
    except ValueError:
        return None
    if isinstance(value, dict):
        return next((value[key] for key in _KEYS if key in value), None)
    return value


def _shown(text: str) -> str:
    short = json.dumps(text[:_SHOWN], ensure_ascii=False)
    return f"{short}{'…' if len(text) > _SHOWN else ''}."
