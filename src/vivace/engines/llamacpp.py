"""llama.cpp: GGUF files, with continuous batching and a prefix cache, on any CPU.

One context holds the cache of all requests; each step decodes one token of every answer together with a portion of the
prompts that wait. Tokens are chosen here, each request with random numbers of its own. Options: `n_batch`.
"""

import random
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from msgspec import Struct

from vivace.domain import Sampling
from vivace.engines.backend import Emit, Likelihoods, Poll, Traits
from vivace.engines.frames import Add, Load, Score
from vivace.engines.limits import free_memory_bytes
from vivace.engines.llamacpp_library import Library, open_library, open_model
from vivace.errors import ConfigError, EngineError, ModelError, ResourceError
from vivace.models.gguf_file import read_header

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

N_BATCH = 256  # tokens of one step; longer ones stall the answers that are in work
TYPICAL_TOKENS = 2048  # tokens of one conversation that the cache has room for
TYPICAL_REQUESTS = 8  # so many of them; more share the room or wait
KEPT = 16  # finished conversations whose cache is kept for those that go on from them
CACHE_MEMORY_FRACTION = 0.25
_MOST_SEQUENCES = 256
_HEAD = 256  # tokens that are sorted first: mostly the next one is among them
_CACHE_BYTES = 2  # keys and values are fp16


class _Running(Struct):
    """A request in work: `ids` are prompt and answer, the first `read` of them are in the cache."""

    request: Add
    slot: int
    ids: list[int]
    read: int
    cached: int
    chance: Any
    sent: int = 0


class LlamaCppBackend:
    """Steps one context for all requests."""

    formats: ClassVar[frozenset[str]] = frozenset({"gguf"})
    options: ClassVar[frozenset[str]] = frozenset({"n_batch"})
    libraries: ClassVar[tuple[str, ...]] = ("xllamacpp",)
    traits: ClassVar[Traits] = Traits(batching="continuous", prefix_cache=True, likelihood=True, repeats_by_seed=True)

    def __init__(self, load: Load) -> None:
        library = open_library()
        path = gguf_path(Path(load.folder))
        slots = min(load.max_batch + (KEPT if load.prefix_cache else 0), _MOST_SEQUENCES)
        tokens = cache_tokens(path, load, free_memory_bytes())
        n_batch = int(load.options.get("n_batch", N_BATCH))
        if n_batch < 1:
            raise ConfigError(f"The option n_batch is {n_batch}; at least 1 is needed.")
        self._model = open_model(library, str(path))
        # Less than a token per sequence in a step, and llama.cpp aborts.
        self._context = Context(library, self._model, tokens, max(n_batch, slots), slots, load.threads)
        self._scoring: Context | None = None
        self._library, self._load, self._n_batch = library, load, n_batch
        self._eos_ids = frozenset(load.eos_ids)
        self._waiting: deque[Add] = deque()
        self._running: dict[int, _Running] = {}
        self._free = list(range(slots))[::-1]
        self._kept: dict[int, tuple[int, ...]] = {}  # slot -> what its cache holds, the oldest first
        self.facts: dict[str, Any] = {
            "version": library.version,
            "kv_cache_tokens": tokens,
            "threads": load.threads,
        }

    @property
    def busy(self) -> bool:
        """Whether any request is in work or waiting."""
        return bool(self._waiting or self._running)

    def add(self, request: Add) -> None:
        """Let a request wait for room in the cache."""
        self._check(request.prompt_ids)
        need, room = _need(request), self._context.tokens
        if need > room:
            raise ResourceError(f"The cache holds {room} tokens; the request needs {need}.")
        self._waiting.append(request)

    def cancel(self, request_id: int) -> None:
        """Drop a request; what it has in the cache is kept for others until they need the room."""
        self._waiting = deque(request for request in self._waiting if request.id != request_id)
        if (running := self._running.get(request_id)) is not None:
            self._end(running)

    def step(self, emit: Emit, poll: Poll) -> None:
        """Advance every answer by one token and read a portion of the prompts that wait."""
        while self._waiting and self._admit(self._waiting[0]):
            self._waiting.popleft()
        # Answers in work go first, then prompts in the order in which they came.
        rows: list[tuple[int, int, int, bool]] = []
        last: dict[int, int] = {}
        for running in sorted(self._running.values(), key=lambda each: len(each.ids) - each.read > 1):
            portion = running.ids[running.read :][: self._context.n_batch - len(rows)]
            for token in portion:
                running.read += 1
                rows.append((token, running.read - 1, running.slot, running.read == len(running.ids)))
            if portion and running.read == len(running.ids):
                last[running.request.id] = len(rows) - 1
        self._context.decode(rows)
        for number, row in last.items():
            self._choose(self._running[number], row, emit)
        poll()

    def score(self, requests: Sequence[Score]) -> list[Likelihoods]:
        """Return what is known of each answer token, in a context of its own that shares the weights."""
        for request in requests:
            self._check((*request.prompt_ids, *request.answer_ids))
        longest = max(len(request.prompt_ids) + len(request.answer_ids) for request in requests)
        if self._scoring is None or self._scoring.tokens < longest:
            if self._scoring is not None:
                self._scoring.close()
            tokens = min(max(longest, TYPICAL_TOKENS), max(longest, self._load.context_length))
            self._scoring = Context(self._library, self._model, tokens, self._n_batch, 1, self._load.threads)
        return [self._scoring.logprobs(request.prompt_ids, request.answer_ids) for request in requests]

    def _check(self, ids: Iterable[int]) -> None:
        beyond = next((token for token in ids if not 0 <= token < self._context.vocab_size), None)
        if beyond is not None:
            raise ModelError(f"The model has {self._context.vocab_size} tokens, and the prompt holds token {beyond}.")

    def _admit(self, request: Add) -> bool:
        """Give a request a slot, with the longest beginning that is in the cache already, if there is room for it."""
        held = sum(_need(running.request) for running in self._running.values())
        if len(self._running) >= self._load.max_batch or held + _need(request) > self._context.tokens:
            return False
        source, common = self._longest_beginning(request.prompt_ids)
        while not self._free or held + sum(map(len, self._kept.values())) + _need(request) > self._context.tokens:
            # What is shared is counted twice here, so there is always more room than it says.
            victim = next((slot for slot in self._kept if slot != source), source)
            assert victim is not None
            del self._kept[victim]
            self._context.forget(victim, common if victim == source else 0)
            if victim == source:
                slot = victim
                break
            self._free.append(victim)
        else:
            slot = self._free.pop()
            if source is not None:
                self._context.share(source, slot, common)
        sampling = request.sampling
        chance = _chance(sampling) if sampling.temperature > 0 else None
        self._running[request.id] = _Running(request, slot, list(request.prompt_ids), common, common, chance)
        return True

    def _longest_beginning(self, prompt: Sequence[int]) -> tuple[int | None, int]:
        """Return the slot that shares most of the prompt's beginning, and how much; its last token is always read."""
        best: tuple[int | None, int] = (None, 0)
        if not self._load.prefix_cache:
            return best
        held = [(slot, ids) for slot, ids in self._kept.items()]
        held += [(running.slot, tuple(running.ids[: running.read])) for running in self._running.values()]
        for slot, ids in held:
            common = 0
            for ours, theirs in zip(prompt[:-1], ids, strict=False):
                if ours != theirs:
                    break
                common += 1
            if common > best[1]:
                best = (slot, common)
        return best

    def _choose(self, running: _Running, row: int, emit: Emit) -> None:
        request, sampling = running.request, running.request.sampling
        token = choose(self._context.logits(row), sampling, running.chance)
        if token in self._eos_ids and not sampling.ignore_eos:
            self._end(running)
            emit(request.id, (), "stop", running.cached)
            return
        running.sent += 1
        running.ids.append(token)
        finished = running.sent >= sampling.max_tokens
        if finished:
            self._end(running)
        emit(request.id, (token,), "length" if finished else None, running.cached)

    def _end(self, running: _Running) -> None:
        del self._running[running.request.id]
        if self._load.prefix_cache and running.read:
            self._kept[running.slot] = tuple(running.ids[: running.read])
        else:
            self._context.forget(running.slot, 0)
            self._free.append(running.slot)


class Context:
    """A cache of `tokens` tokens in `slots` sequences, and what decodes into it."""

    def __init__(self, library: Library, model: int, tokens: int, n_batch: int, slots: int, threads: int) -> None:
        self._lib = library.inference()
        wanted = {"n_ctx": tokens, "n_batch": n_batch, "n_ubatch": n_batch, "n_seq_max": slots}
        wanted |= {"n_threads": threads, "n_threads_batch": threads}
        self._handle = self._lib.llama_init_from_model(model, library.context_params(kv_unified=True, **wanted))
        if not self._handle:
            raise EngineError(f"llama.cpp opens no context: {library.complaint or 'no reason given'}.")
        self.tokens = int(self._lib.llama_n_ctx_seq(self._handle))
        if any(getattr(self._lib, f"llama_{name}")(self._handle) < value for name, value in wanted.items()):
            raise EngineError(f"xllamacpp {library.version} does not take its parameters as they are known.")
        if self.tokens < tokens:
            raise EngineError(f"xllamacpp {library.version} divides its cache among requests.")
        self._library = library
        self.n_batch = n_batch
        self._memory = self._lib.llama_get_memory(self._handle)
        self.vocab_size = int(self._lib.llama_vocab_n_tokens(self._lib.llama_model_get_vocab(model)))
        self._batch = self._lib.llama_batch_init(n_batch, 0, 1)

    def decode(self, rows: Sequence[tuple[int, int, int, bool]]) -> None:
        """Read tokens, each with its position, its slot and whether its logits are wanted."""
        batch = self._batch
        batch.n_tokens = len(rows)
        for index, (token, position, slot, wanted) in enumerate(rows):
            batch.token[index], batch.pos[index] = token, position
            batch.n_seq_id[index], batch.logits[index] = 1, wanted
            batch.seq_id[index][0] = slot
        code = self._lib.llama_decode(self._handle, batch) if rows else 0
        if code:
            reason = "its cache is full" if code == 1 else self._library.complaint or f"code {code}"
            raise EngineError(f"llama.cpp could not decode: {reason}.")

    def logits(self, row: int) -> "NDArray[np.float32]":
        """Return the logits [vocabulary] of a row of the last decode, valid until the next."""
        import numpy as np

        return np.ctypeslib.as_array(self._lib.llama_get_logits_ith(self._handle, row), (self.vocab_size,))

    def share(self, source: int, target: int, tokens: int) -> None:
        """Let `target` begin with the first `tokens` of `source`, without copying them."""
        self._lib.llama_memory_seq_cp(self._memory, source, target, 0, tokens)

    def forget(self, slot: int, keep: int) -> None:
        """Forget what a slot holds after its first `keep` tokens."""
        self._lib.llama_memory_seq_rm(self._memory, slot, keep, -1)

    def logprobs(self, prompt: Sequence[int], answer: Sequence[int]) -> Likelihoods:
        """Return the log-probability of each token of `answer` after `prompt`, in a cache of its own."""
        self._lib.llama_memory_clear(self._memory, False)
        ids = [*prompt, *answer][:-1]  # nothing is predicted from the last
        found: list[float] = []
        greedy: list[bool] = []
        for start in range(0, len(ids), self.n_batch):
            rows = [
                (token, place, 0, place >= len(prompt) - 1)
                for place, token in enumerate(ids[start : start + self.n_batch], start=start)
            ]
            self.decode(rows)
            for row, (_, place, _, wanted) in enumerate(rows):
                if wanted:
                    logits, token = self.logits(row), answer[place - len(prompt) + 1]
                    found.append(_logprob(logits, token))
                    greedy.append(bool(logits[token] >= logits.max()))
        return Likelihoods(found, greedy)

    def close(self) -> None:
        """Give its memory back."""
        self._lib.llama_batch_free(self._batch)
        self._lib.llama_free(self._handle)


def choose(logits: "NDArray[np.float32]", sampling: Sampling, chance: Any) -> int:
    """Return the next token: the likeliest at temperature 0, else one drawn from the likeliest `top_p`."""
    import numpy as np

    if chance is None:
        return int(logits.argmax())
    scaled = logits.astype(np.float64) / sampling.temperature
    weights = np.exp(scaled - scaled.max())
    weights /= weights.sum()
    order = np.argpartition(-weights, _HEAD)[:_HEAD] if len(weights) > _HEAD else np.arange(len(weights))
    if weights[order].sum() < sampling.top_p:  # the likeliest few are not enough: sort them all
        order = np.arange(len(weights))
    order = order[np.argsort(-weights[order], kind="stable")]
    before = weights[order].cumsum() - weights[order]
    kept = order[before < sampling.top_p]
    ends = weights[kept].cumsum()
    return int(kept[min(int(np.searchsorted(ends, chance.random() * ends[-1], side="right")), len(kept) - 1)])


def cache_tokens(path: Path, load: Load, free_bytes: int) -> int:
    """Return for how many tokens the cache has room: usual conversations, a quarter of free memory at the most.

    Raises `ResourceError` when not even one conversation of the model's full length fits.
    """
    header = read_header(path)
    heads = int(header.setting("attention.head_count") or 0)
    width = int(header.setting("attention.key_length") or (header.setting("embedding_length") or 0) // max(heads, 1))
    kv_heads = int(header.setting("attention.head_count_kv") or heads)
    per_token = 2 * int(header.setting("block_count") or 0) * kv_heads * width * _CACHE_BYTES
    longest = load.context_length
    wanted = max(longest, min(load.max_batch, TYPICAL_REQUESTS) * min(longest, TYPICAL_TOKENS))
    affordable = int(free_bytes * CACHE_MEMORY_FRACTION / per_token) if per_token else wanted
    if affordable < longest:
        raise ResourceError(
            f"The cache for one conversation of {longest} tokens needs {longest * per_token / 1e6:,.0f} MB, a quarter "
            f"of the free memory is {free_bytes * CACHE_MEMORY_FRACTION / 1e6:,.0f} MB.",
            "Close other programs or take a smaller model.",
        )
    return min(wanted, affordable)


def gguf_path(place: Path) -> Path:
    """Return the GGUF file that `place` is, or that the folder `place` holds."""
    if place.is_file():
        return place
    found = sorted(place.glob("*.gguf"))
    if len(found) != 1:
        raise ModelError(f"{place} holds {len(found)} GGUF files, not one.", "Export it again with `vivace compress`.")
    return found[0]


def _need(request: Add) -> int:
    return len(request.prompt_ids) + request.sampling.max_tokens


def _chance(sampling: Sampling) -> Any:
    import numpy as np

    return np.random.default_rng(random.getrandbits(63) if sampling.seed is None else sampling.seed % (1 << 63))


def _logprob(logits: "NDArray[np.float32]", token: int) -> float:
    import numpy as np

    exact = logits.astype(np.float64)
    top = exact.max()
    return float(exact[token] - top - np.log(np.exp(exact - top).sum()))
