"""OpenVINO: continuous batching with a prefix cache, the fastest engine on a CPU.

One `ContinuousBatchingPipeline` is owned by the process's main thread, fed with token ids and stepped for all requests
at once. Options: `kv_cache_precision` (u8, f16, f32; u8 is OpenVINO's default on a CPU), `max_num_batched_tokens`.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from vivace.engines.backend import Emit, Likelihoods, Poll, Traits
from vivace.engines.frames import Add, Load, Score
from vivace.engines.limits import free_memory_bytes
from vivace.errors import EngineError, ResourceError
from vivace.models.tokenizer import read_json

if TYPE_CHECKING:
    from vivace.engines.openvino_likelihood import Scorer

BLOCK_TOKENS = 32  # tokens in one block of the CPU plugin's paged cache
# Prompts are read in portions of so many tokens, decoding requests going along with each: measured on 2 cores with 8
# requests of 150 tokens, 64 to 1,024 differ by under 2 % in throughput, and smaller portions stall decoding less.
MAX_NUM_BATCHED_TOKENS = 256
TYPICAL_TOKENS = 2048  # tokens of one conversation that the cache has room for, times `max_batch`
CACHE_MEMORY_FRACTION = 0.25
_PRECISION_BYTES = {"u8": 1.0, "f16": 2.0, "bf16": 2.0, "f32": 4.0}
_SCALE_BYTES = 8  # u8 keeps scale and zero point per head and token


class _Running(Struct):
    handle: Any
    cut_eos: bool


class OpenVinoBackend:
    """Steps one pipeline for all requests."""

    formats: ClassVar[frozenset[str]] = frozenset({"openvino"})
    options: ClassVar[frozenset[str]] = frozenset({"kv_cache_precision", "max_num_batched_tokens"})
    libraries: ClassVar[tuple[str, ...]] = ("openvino", "openvino_genai")
    traits: ClassVar[Traits] = Traits(batching="continuous", prefix_cache=True, likelihood=True)

    def __init__(self, load: Load) -> None:
        import openvino_genai

        self._genai = openvino_genai
        self._load = load
        self._eos_ids = frozenset(load.eos_ids)
        self._running: dict[int, _Running] = {}
        self._scorer: Scorer | None = None
        precision = str(load.options.get("kv_cache_precision", "u8"))
        blocks = cache_blocks(load, precision, free_memory_bytes())
        scheduler = openvino_genai.SchedulerConfig()
        scheduler.num_kv_blocks = blocks
        scheduler.enable_prefix_caching = load.prefix_cache
        scheduler.dynamic_split_fuse = True
        scheduler.max_num_batched_tokens = int(load.options.get("max_num_batched_tokens", MAX_NUM_BATCHED_TOKENS))
        scheduler.max_num_seqs = load.max_batch
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            load.folder,
            scheduler,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": load.threads,
                "PERFORMANCE_HINT": "LATENCY",
                "ENABLE_CPU_PINNING": False,  # two engines pinned to the same core halve each other
                "KV_CACHE_PRECISION": precision,
            },
        )
        self.facts: dict[str, Any] = {
            "version": openvino_genai.__version__,
            "kv_cache_precision": precision,
            "kv_cache_tokens": blocks * BLOCK_TOKENS,
            "threads": load.threads,
        }

    @property
    def busy(self) -> bool:
        """Whether any request is in work or waiting."""
        return bool(self._running)

    def add(self, request: Add) -> None:
        """Hand a request to the pipeline; it joins the others at the next step."""
        import numpy as np
        import openvino as ov

        tokens = len(request.prompt_ids) + request.sampling.max_tokens
        if tokens > self.facts["kv_cache_tokens"]:
            raise ResourceError(f"The cache holds {self.facts['kv_cache_tokens']} tokens; the request needs {tokens}.")
        prompt = ov.Tensor(np.array([request.prompt_ids], dtype=np.int64))
        handle = self._pipeline.add_request(request.id, prompt, self._generation(request))
        self._running[request.id] = _Running(handle, not request.sampling.ignore_eos)

    def cancel(self, request_id: int) -> None:
        """Drop a request; its cache blocks are free at the next step."""
        if (running := self._running.pop(request_id, None)) is not None:
            running.handle.cancel()

    def step(self, emit: Emit, poll: Poll) -> None:
        """Read a portion of the waiting prompts and advance every answer by one token."""
        self._pipeline.step()
        status = self._genai.GenerationStatus
        for number, running in list(self._running.items()):
            ids: list[int] = []
            finish = None
            while running.handle.can_read():
                for output in running.handle.read().values():
                    ids.extend(output.generated_ids)
                    finish = self._finish(output.finish_reason) or finish
            state = running.handle.get_status()
            if state == status.IGNORED:
                raise EngineError("OpenVINO found no room in its cache for a request.")
            if finish is None and state == status.FINISHED:
                finish = "stop" if running.cut_eos and ids and ids[-1] in self._eos_ids else "length"
            if finish == "stop" and running.cut_eos and ids and ids[-1] in self._eos_ids:
                ids.pop()
            if finish is not None:
                del self._running[number]
            if ids or finish is not None:
                emit(number, tuple(ids), finish)
        if self._running and not self._pipeline.has_non_finished_requests():
            raise EngineError("The pipeline forgot a request.")

    def score(self, requests: Sequence[Score]) -> list[Likelihoods]:
        """Score with a second, exact copy of the model, opened at the first call.

        The pipeline's own `echo` log-probabilities are not used: for tokens found in the prefix cache they are
        uninitialized memory (openvino-genai 2026.4.1).
        """
        if self._scorer is None:
            from vivace.engines.openvino_likelihood import Scorer

            self._scorer = Scorer(Path(self._load.folder), self._load.threads)
        return self._scorer.score(requests)

    def _finish(self, reason: Any) -> str | None:
        reasons = self._genai.GenerationFinishReason
        return {reasons.STOP: "stop", reasons.LENGTH: "length"}.get(reason)

    def _generation(self, request: Add) -> Any:
        sampling = request.sampling
        config = self._genai.GenerationConfig()
        config.max_new_tokens = sampling.max_tokens
        config.apply_chat_template = False
        config.ignore_eos = sampling.ignore_eos
        if self._eos_ids:
            config.eos_token_id = min(self._eos_ids)
            config.stop_token_ids = set(self._eos_ids)  # `ignore_eos` covers these as well
        config.do_sample = sampling.temperature > 0
        if config.do_sample:
            config.temperature = sampling.temperature
            config.top_p = sampling.top_p
            config.rng_seed = random.getrandbits(31) if sampling.seed is None else sampling.seed % (1 << 31)
        return config


def cache_blocks(load: Load, precision: str, free_bytes: int) -> int:
    """Return how many blocks the cache may have: room for `max_batch` usual conversations, a quarter of free memory.

    Raises `ResourceError` when not even one conversation of the model's full length fits.
    """
    config = read_json(Path(load.folder) / "config.json")
    per_token = _bytes_per_token(config, precision)
    longest = -(-load.context_length // BLOCK_TOKENS) + 1
    wanted = max(longest, load.max_batch * min(load.context_length, TYPICAL_TOKENS) // BLOCK_TOKENS)
    if per_token == 0:
        return wanted
    affordable = int(free_bytes * CACHE_MEMORY_FRACTION / (per_token * BLOCK_TOKENS))
    if affordable < longest:
        raise ResourceError(
            f"The cache for one conversation of {load.context_length} tokens needs "
            f"{longest * BLOCK_TOKENS * per_token / 1e6:,.0f} MB, a quarter of the free memory is "
            f"{free_bytes * CACHE_MEMORY_FRACTION / 1e6:,.0f} MB.",
            "Close other programs or take a smaller model.",
        )
    return min(wanted, affordable)


def _bytes_per_token(config: dict[str, Any], precision: str) -> float:
    layers, heads = config.get("num_hidden_layers"), config.get("num_attention_heads")
    if not isinstance(layers, int) or not isinstance(heads, int):
        return 0.0
    kv_heads = config.get("num_key_value_heads") or heads
    width = config.get("head_dim") or config.get("hidden_size", 0) // heads
    return float(2 * layers * kv_heads * (width * _PRECISION_BYTES.get(precision, 4.0) + _SCALE_BYTES))
