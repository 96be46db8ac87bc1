"""An engine without a model: it repeats the last user message, and misbehaves when told to.

Options, also read from `echo.json` in the model folder: `delay_ms_per_token`; `crash_on`, `hang_on` and `swell_on`,
texts that end the process, stop its loop or let its memory grow without end when the last user message holds them;
`context_length` of the byte tokenizer.
"""

import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from msgspec import Struct

from vivace.domain import Model
from vivace.engines.backend import Emit, Poll, Traits
from vivace.engines.frames import Add, Load, Score
from vivace.engines.tokens import echo_options, open_tokenizer

_SWELL_BYTES = 16_000_000


class _Answer(Struct):
    ids: tuple[int, ...]
    finish: str
    sent: int = 0


class EchoBackend:
    """Advances all requests by one token per step, as an engine with continuous batching does."""

    formats: ClassVar[frozenset[str]] = frozenset({"echo", "hf", "adapter", "openvino", "onnx"})
    options: ClassVar[frozenset[str]] = frozenset(
        {"delay_ms_per_token", "crash_on", "hang_on", "swell_on", "context_length"}
    )
    libraries: ClassVar[tuple[str, ...]] = ()
    traits: ClassVar[Traits] = Traits(batching="continuous", likelihood=True, repeats_by_seed=True)

    def __init__(self, load: Load) -> None:
        options = echo_options(Path(load.folder)) | load.options
        tokenizer = open_tokenizer(Model("echo", Path(load.folder), "echo", "none"))
        self._delay_s = float(options.get("delay_ms_per_token", 0)) / 1e3
        self._crash_on = tokenizer.encode(str(options.get("crash_on", "")))
        self._hang_on = tokenizer.encode(str(options.get("hang_on", "")))
        self._swell_on = tokenizer.encode(str(options.get("swell_on", "")))
        self._swollen: list[bytes] = []
        self._swells = False
        self._max_batch = load.max_batch
        self._logprob = -math.log(max(2, load.vocab_size))
        self._answers: dict[int, _Answer] = {}
        self.facts: dict[str, Any] = {}

    @property
    def busy(self) -> bool:
        """Whether any request is in work."""
        return bool(self._answers)

    def add(self, request: Add) -> None:
        """Take a request in, or misbehave if it asks for it."""
        if _holds(request.question_ids, self._crash_on):
            os.write(2, b"echo: a request asked for a crash.\n")
            os.abort()
        while _holds(request.question_ids, self._hang_on):
            time.sleep(1)
        self._swells = self._swells or _holds(request.question_ids, self._swell_on)
        limit, ids = request.sampling.max_tokens, request.question_ids
        if request.sampling.ignore_eos and ids:
            ids = ids * math.ceil(limit / len(ids))
        finish = "length" if len(ids) > limit or request.sampling.ignore_eos else "stop"
        self._answers[request.id] = _Answer(ids[:limit], finish)

    def cancel(self, request_id: int) -> None:
        """Forget a request."""
        self._answers.pop(request_id, None)

    def step(self, emit: Emit, poll: Poll) -> None:
        """Send the next token of each of the first `max_batch` answers."""
        if self._delay_s:
            time.sleep(self._delay_s)
        while self._swells:
            self._swollen.append(b"x" * _SWELL_BYTES)
        for number, answer in list(self._answers.items())[: self._max_batch]:
            ids = answer.ids[answer.sent : answer.sent + 1]
            answer.sent += len(ids)
            done = answer.sent >= len(answer.ids)
            if done:
                del self._answers[number]
            emit(number, ids, answer.finish if done else None)

    def score(self, requests: Sequence[Score]) -> list[list[float]]:
        """Call every token equally likely."""
        return [[self._logprob] * len(request.answer_ids) for request in requests]


def _holds(ids: tuple[int, ...], part: tuple[int, ...]) -> bool:
    size = len(part)
    return size > 0 and any(ids[at : at + size] == part for at in range(len(ids) - size + 1))
