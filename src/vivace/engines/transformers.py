"""transformers: the reference every other engine is compared with, on a CPU or CUDA.

Requests that wait are answered together, as one left-padded `generate` call. Option: `dtype` (float32, bfloat16).
"""

import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from vivace.domain import Sampling
from vivace.engines.backend import Emit, Likelihoods, Poll, Traits
from vivace.engines.frames import Add, Load, Score
from vivace.errors import ModelError

if TYPE_CHECKING:
    import torch

GATHER_S = 0.01  # how long the first request of a batch waits for others
SCORE_BATCH_TOKENS = 2048
_FAST_BFLOAT16 = ("avx512_bf16", "amx_bf16")


class _Row(Struct):
    request: Add
    sent: int = 0
    done: bool = False


class TransformersBackend:
    """Answers in static batches; requests sampled differently go into different ones."""

    formats: ClassVar[frozenset[str]] = frozenset({"hf", "adapter"})
    options: ClassVar[frozenset[str]] = frozenset({"dtype"})
    libraries: ClassVar[tuple[str, ...]] = ("torch", "transformers")
    traits: ClassVar[Traits] = Traits(batching="static", likelihood=True, devices=("CPU", "CUDA"))

    def __init__(self, load: Load) -> None:
        import torch

        torch.set_num_threads(load.threads)
        cuda = torch.cuda.is_available()
        self._device = "cuda" if cuda else "cpu"
        dtype = str(load.options.get("dtype") or ("bfloat16" if cuda or _fast_bfloat16() else "float32"))
        self._model = _open(load, dtype).to(self._device)
        # What the folder's generation settings hold besides (temperature, penalties) would sample differently from the
        # other engines: the request alone decides.
        self._model.generation_config = _generation_config()
        self._eos_ids = frozenset(load.eos_ids)
        self._max_batch = load.max_batch
        self._waiting: list[Add] = []
        self._rows: list[_Row] = []
        self.facts: dict[str, Any] = {
            "version": _version(),
            "device": self._device,
            "dtype": dtype,
            "threads": load.threads,
        }

    @property
    def busy(self) -> bool:
        """Whether any request is in work or waiting."""
        return bool(self._waiting or self._rows)

    def add(self, request: Add) -> None:
        """Let a request wait for the next batch."""
        self._waiting.append(request)

    def cancel(self, request_id: int) -> None:
        """Drop a request; its row of a running batch ends with the next token."""
        self._waiting = [request for request in self._waiting if request.id != request_id]
        for row in self._rows:
            row.done = row.done or row.request.id == request_id

    def step(self, emit: Emit, poll: Poll) -> None:
        """Answer one batch to its end, with the requests that come within a moment."""
        time.sleep(GATHER_S)
        poll()
        self._rows = [_Row(request) for request in self._next_batch()]
        if not self._rows:
            return
        try:
            self._generate(emit, poll)
        finally:
            self._rows = []

    def score(self, requests: Sequence[Score]) -> list[Likelihoods]:
        """Return what is known of each answer token, from forward passes over left-padded batches."""
        by_length = sorted(range(len(requests)), key=lambda index: _length(requests[index]))
        results = [Likelihoods(()) for _ in requests]
        while by_length:
            batch = [by_length.pop()]
            width = _length(requests[batch[0]])
            while by_length and (len(batch) + 1) * width <= SCORE_BATCH_TOKENS:
                batch.append(by_length.pop())
            for index, logprobs in zip(batch, self._score([requests[index] for index in batch]), strict=True):
                results[index] = logprobs
        return results

    def _next_batch(self) -> list[Add]:
        """Take the first request that waits, and those after it that are sampled alike."""
        if not self._waiting:
            return []
        key = _sampling_key(self._waiting[0].sampling)
        batch = [each for each in self._waiting if _sampling_key(each.sampling) == key][: self._max_batch]
        taken = {request.id for request in batch}
        self._waiting = [request for request in self._waiting if request.id not in taken]
        return batch

    def _generate(self, emit: Emit, poll: Poll) -> None:
        import torch
        from transformers import StoppingCriteria, StoppingCriteriaList

        rows, told = self._rows, self._tell

        class Hook(StoppingCriteria):
            """Called after each token: sends it on and says which rows are done."""

            def __call__(self, input_ids: "torch.Tensor", scores: Any, **_: Any) -> "torch.Tensor":
                told(input_ids[:, -1].tolist(), emit)
                poll()
                return torch.tensor([row.done for row in rows], dtype=torch.bool, device=input_ids.device)

        sampling = rows[0].request.sampling
        if sampling.temperature > 0:
            torch.manual_seed(random.getrandbits(63) if sampling.seed is None else sampling.seed)
        input_ids, attention_mask = self._pad([row.request.prompt_ids for row in rows])
        config = _generation_config(max_new_tokens=max(row.request.sampling.max_tokens for row in rows))
        if sampling.temperature > 0:
            config.update(do_sample=True, temperature=sampling.temperature, top_p=sampling.top_p, top_k=0)
        with torch.inference_mode():
            self._model.generate(
                input_ids=input_ids,
                attention_mask=attention_mask,
                generation_config=config,
                stopping_criteria=StoppingCriteriaList([Hook()]),
            )

    def _tell(self, tokens: list[int], emit: Emit) -> None:
        for row, token in zip(self._rows, tokens, strict=True):
            if row.done:
                continue
            sampling = row.request.sampling
            if token in self._eos_ids and not sampling.ignore_eos:
                row.done = True
                emit(row.request.id, (), "stop")
                continue
            row.sent += 1
            row.done = row.sent >= sampling.max_tokens
            emit(row.request.id, (token,), "length" if row.done else None)

    def _score(self, requests: Sequence[Score]) -> list[Likelihoods]:
        import torch

        input_ids, attention_mask = self._pad([(*each.prompt_ids, *each.answer_ids) for each in requests])
        position_ids = (attention_mask.cumsum(-1) - 1).clamp(min=0)
        longest = max(len(request.answer_ids) for request in requests)
        with torch.inference_mode():
            # Left-padded, so all answers end together: (batch, longest + 1, vocabulary), the last row predicts nothing.
            logits = self._model(
                input_ids=input_ids,
                attention_mask=attention_mask,
                position_ids=position_ids,
                use_cache=False,
                logits_to_keep=longest + 1,
            ).logits[:, :-1]
            results = []
            for line, request in enumerate(requests):
                count = len(request.answer_ids)
                told = logits[line, -count:].float()
                targets = torch.tensor(request.answer_ids, device=told.device)[:, None]
                logprobs = told.log_softmax(-1).gather(1, targets)[:, 0].double().tolist()
                greedy = (told.gather(1, targets)[:, 0] >= told.amax(-1)).tolist()
                results.append(Likelihoods(logprobs, greedy))
        return results

    def _pad(self, prompts: Sequence[Sequence[int]]) -> tuple["torch.Tensor", "torch.Tensor"]:
        """Return ids and mask, both (batch, longest), padded on the left."""
        import torch

        width = max(len(prompt) for prompt in prompts)
        ids = torch.zeros((len(prompts), width), dtype=torch.long)
        mask = torch.zeros_like(ids)
        for line, prompt in enumerate(prompts):
            ids[line, width - len(prompt) :] = torch.tensor(prompt)
            mask[line, width - len(prompt) :] = 1
        return ids.to(self._device), mask.to(self._device)


def _open(load: Load, dtype: str) -> Any:
    from vivace.models import load_causal_lm, load_with_adapter

    if load.format == "adapter":
        adapted = load_with_adapter(Path(load.folder), Path(load.base) if load.base else None, dtype=dtype)
        if adapted.active_peft_config.is_prompt_learning:
            raise ModelError(
                f"The adapter {load.folder} holds learned tokens (prompt tuning), which no engine can answer with.",
                'Train with method = "lora" or another that changes weights.',
            )
        return adapted.merge_and_unload()
    return load_causal_lm(Path(load.folder), dtype)


def _generation_config(**settings: Any) -> Any:
    import transformers

    config: Any = transformers.GenerationConfig
    # No end-of-turn token: the hook ends rows, and a row that only pads costs as much as one that goes on.
    return config(do_sample=False, bos_token_id=None, eos_token_id=None, pad_token_id=0, **settings)


def _sampling_key(sampling: Sampling) -> tuple[float, float, int | None]:
    return (sampling.temperature, sampling.top_p, sampling.seed) if sampling.temperature > 0 else (0.0, 1.0, None)


def _fast_bfloat16() -> bool:
    """Say whether this CPU multiplies bfloat16; without, torch emulates it, many times slower than float32."""
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return any(flag in flags for flag in _FAST_BFLOAT16)


def _version() -> str:
    import transformers

    return str(transformers.__version__)


def _length(request: Score) -> int:
    return len(request.prompt_ids) + len(request.answer_ids)
