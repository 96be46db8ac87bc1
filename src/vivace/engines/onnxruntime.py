"""ONNX Runtime: 4-bit weights, the fastest single stream on a CPU.

Each request has a generator of its own, and all advance in turns of one token: requests progress together, join and
leave at any time. Batches of `onnxruntime_genai` are static and pad by token value, so they are not used.
"""

import json
import random
from collections.abc import Sequence
from typing import Any, ClassVar

from msgspec import Struct

from vivace.engines.backend import Emit, Likelihoods, Poll, Traits
from vivace.engines.frames import Add, Load, Score


class _Running(Struct):
    request: Add
    generator: Any
    sent: int = 0


class OnnxRuntimeBackend:
    """Advances up to `max_batch` generators in turns."""

    formats: ClassVar[frozenset[str]] = frozenset({"onnx"})
    options: ClassVar[frozenset[str]] = frozenset()
    libraries: ClassVar[tuple[str, ...]] = ("onnxruntime_genai",)
    traits: ClassVar[Traits] = Traits(batching="turns", likelihood=True, repeats_by_seed=True)

    def __init__(self, load: Load) -> None:
        import onnxruntime_genai as genai

        if hasattr(genai, "disable_telemetry_events"):
            genai.disable_telemetry_events()
        config = genai.Config(load.folder)
        options = {"intra_op_num_threads": load.threads, "inter_op_num_threads": 1}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._genai = genai
        self._model = genai.Model(config)
        self._eos_ids = frozenset(load.eos_ids)
        self._max_batch = load.max_batch
        self._waiting: list[Add] = []
        self._running: dict[int, _Running] = {}
        self.facts: dict[str, Any] = {"version": genai.__version__, "threads": load.threads}

    @property
    def busy(self) -> bool:
        """Whether any request is in work or waiting."""
        return bool(self._waiting or self._running)

    def add(self, request: Add) -> None:
        """Let a request wait for its turn."""
        self._waiting.append(request)

    def cancel(self, request_id: int) -> None:
        """Drop a request and its cache."""
        self._waiting = [request for request in self._waiting if request.id != request_id]
        self._running.pop(request_id, None)

    def step(self, emit: Emit, poll: Poll) -> None:
        """Read one waiting prompt, then advance every answer by one token."""
        if self._waiting and len(self._running) < self._max_batch:
            request = self._waiting.pop(0)
            self._running[request.id] = _Running(request, self._begin(request))
        for number in list(self._running):
            if number in self._running:
                self._advance(self._running[number], emit)
                poll()

    def score(self, requests: Sequence[Score]) -> list[Likelihoods]:
        """Return what is known of each answer token, one forward pass per request."""
        return [self._score(request) for request in requests]

    def _begin(self, request: Add) -> Any:
        sampling, prompt_tokens = request.sampling, len(request.prompt_ids)
        length = prompt_tokens + sampling.max_tokens
        options: dict[str, Any] = {"batch_size": 1, "max_length": length, "do_sample": sampling.temperature > 0}
        if sampling.temperature > 0:
            seed = random.getrandbits(31) if sampling.seed is None else sampling.seed % (1 << 31)
            options |= {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0, "random_seed": seed}
        if sampling.ignore_eos:
            options["min_length"] = length  # the end-of-turn token is never chosen before
        return self._generator(request.prompt_ids, options)

    def _generator(self, ids: Sequence[int], options: dict[str, Any]) -> Any:
        import numpy as np

        params = self._genai.GeneratorParams(self._model)
        params.set_search_options(**options)
        generator = self._genai.Generator(self._model, params)
        generator.append_tokens(np.array(ids, dtype=np.int32))
        return generator

    def _advance(self, running: _Running, emit: Emit) -> None:
        running.generator.generate_next_token()
        token = int(running.generator.get_next_tokens()[0])
        request, sampling = running.request, running.request.sampling
        if token in self._eos_ids and not sampling.ignore_eos:
            del self._running[request.id]
            emit(request.id, (), "stop")
            return
        running.sent += 1
        last = running.sent >= sampling.max_tokens
        if last:
            del self._running[request.id]
        emit(request.id, (token,), "length" if last else None)

    def _score(self, request: Score) -> Likelihoods:
        import numpy as np

        ids = (*request.prompt_ids, *request.answer_ids)
        options = {"batch_size": 1, "max_length": len(ids) + 1, "do_sample": False}
        generator = self._generator(ids, options)
        # (1, tokens, vocabulary); token t is predicted at position t - 1.
        logits = generator.get_output("logits")[0, len(request.prompt_ids) - 1 : -1].astype(np.float64)
        top = logits.max(-1, keepdims=True)
        norm = top[:, 0] + np.log(np.exp(logits - top).sum(-1))
        picked = logits[np.arange(len(request.answer_ids)), list(request.answer_ids)]
        return Likelihoods((picked - norm).tolist(), (picked >= top[:, 0]).tolist())
