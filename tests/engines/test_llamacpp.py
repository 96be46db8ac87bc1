"""The llama.cpp engine keeps the promises of every engine, is exact, bounded, and remembers prefixes."""

import asyncio
import ctypes
from pathlib import Path

import numpy as np
import pytest
from msgspec.structs import replace

from tests.compress.numbers import torch_logits
from tests.engines.asking import collect, ids_of, request, with_engine
from vivace.domain import Model, Sampling
from vivace.engines import ProcessEngine
from vivace.engines.frames import Add, Load, Score
from vivace.engines.llamacpp import LlamaCppBackend, cache_tokens, choose, gguf_path
from vivace.engines.llamacpp_library import _CONTEXT, _MODEL, Library, Params, open_library, open_model
from vivace.errors import ConfigError, EngineError, ModelError, ResourceError

pytest.importorskip("xllamacpp")

PROMPTS = ["Hello!", "What time is breakfast served in the hotel?", "I would like to know where my order is. " * 4]
ANSWERS = ["Your order was sent yesterday.", "No.", "The answer to the question is that there is no answer."]
# Logits of the tiny model lie in about +-20; llama.cpp rounds what it multiplies, and its cache, to fp16.
LOGPROB = 0.15


def _load(model: Model, **changes: object) -> Load:
    load = Load("llamacpp", str(model.path), "gguf", 1, 4, True, 1024, 512, (2,))
    return replace(load, **changes)


class Told:
    """Collects what a backend emits."""

    def __init__(self) -> None:
        self.ids: dict[int, list[int]] = {}
        self.finish: dict[int, str] = {}
        self.cached: dict[int, int] = {}

    def __call__(self, number: int, ids: tuple[int, ...], finish: str | None = None, cached_tokens: int = 0) -> None:
        self.ids.setdefault(number, []).extend(ids)
        self.cached[number] = cached_tokens
        if finish:
            self.finish[number] = finish


def _answer(backend: LlamaCppBackend, *requests: Add) -> Told:
    told = Told()
    for each in requests:
        backend.add(each)
    while backend.busy:
        backend.step(told, lambda: None)
    return told


def _add(number: int, prompt: list[int], **sampling: object) -> Add:
    return Add(number, tuple(prompt), Sampling(**{"max_tokens": 8, "ignore_eos": True, **sampling}))


def _prompt(length: int, seed: int = 3) -> list[int]:
    return np.random.default_rng(seed).integers(3, 512, length).tolist()


async def _likelihoods(engine: ProcessEngine) -> list[list[float]]:
    encode, chat = engine.tokenizer.encode, engine.tokenizer.encode_chat
    pairs = [(chat(request(prompt).messages), encode(text)) for prompt in PROMPTS for text in ANSWERS]
    at_once = await asyncio.gather(*(engine.token_logprobs(prompt, answer) for prompt, answer in pairs))
    for prompt in PROMPTS:
        await ids_of(engine, prompt, max_tokens=4)
    assert [await engine.token_logprobs(prompt, answer) for prompt, answer in pairs] == at_once
    return at_once


@pytest.mark.slow
def test_likelihoods_agree_with_transformers(tiny_hf: Model, tiny_gguf: Model) -> None:
    ours = with_engine("llamacpp", tiny_gguf, _likelihoods, threads=1)
    theirs = with_engine("transformers", tiny_hf, _likelihoods_once, threads=1)
    for row, reference in zip(ours, theirs, strict=True):
        assert row == pytest.approx(reference, abs=LOGPROB)


async def _likelihoods_once(engine: ProcessEngine) -> list[list[float]]:
    encode, chat = engine.tokenizer.encode, engine.tokenizer.encode_chat
    pairs = [(chat(request(prompt).messages), encode(text)) for prompt in PROMPTS for text in ANSWERS]
    return [await engine.token_logprobs(prompt, answer) for prompt, answer in pairs]


@pytest.mark.slow
def test_greedy_answers_are_transformers_own_choice(tiny_hf: Model, tiny_gguf: Model) -> None:
    backend = LlamaCppBackend(_load(tiny_gguf, max_batch=8))
    prompts = {number: _prompt(10 * number, seed=number) for number in range(1, 9)}
    answers = _answer(backend, *(_add(number, prompt, max_tokens=24) for number, prompt in prompts.items())).ids
    same = total = 0
    for number, prompt in prompts.items():
        logits = torch_logits(tiny_hf.path, [[*prompt, *answers[number]]])[0][len(prompt) - 1 : -1]
        for row, token in zip(logits, answers[number], strict=True):
            assert row[token] > row.max() - LOGPROB  # what it takes instead is as good as the best
            same, total = same + int(row.argmax() == token), total + 1
    assert total == 8 * 24
    assert same > 0.97 * total


@pytest.mark.slow
def test_characters_come_whole_although_their_bytes_are_tokens(tiny_gguf: Model) -> None:
    # At a high temperature the tiny model says stray bytes of all kinds; what is told, joined, is the decoded whole.
    async def story(engine: ProcessEngine) -> None:
        for seed in range(4):
            chunks = await collect(engine, request("Hi", max_tokens=60, temperature=8.0, seed=seed, ignore_eos=True))
            ids = [token for chunk in chunks for token in chunk.token_ids]
            assert len(ids) == 60
            assert "".join(chunk.text for chunk in chunks) == engine.tokenizer.decode(ids)

    with_engine("llamacpp", tiny_gguf, story, threads=1)


def test_what_is_told_of_the_cache_is_what_was_not_read_again(tiny_gguf: Model) -> None:
    backend = LlamaCppBackend(_load(tiny_gguf))
    long = _prompt(100)
    first = _answer(backend, _add(1, long))
    again = _answer(backend, _add(2, long))
    onward = _answer(backend, _add(3, [*long, *first.ids[1], *_prompt(10, seed=4)]))
    other = _answer(backend, _add(4, _prompt(50, seed=5)))
    assert first.cached[1] == 0
    assert again.cached[2] == 99  # the last token is always read: its logits are not kept
    assert again.ids[2] == first.ids[1]
    assert onward.cached[3] == 107  # the last answer token never was read
    assert other.cached[4] == 0


def test_answers_do_not_depend_on_the_cache_nor_on_company(tiny_gguf: Model) -> None:
    long = _prompt(60)
    requests = [_add(number, [*long, *_prompt(5 * number, seed=number)]) for number in range(1, 9)]
    cold = LlamaCppBackend(_load(tiny_gguf, prefix_cache=False))
    alone = {number: ids for each in requests for number, ids in _answer(cold, each).ids.items()}
    warm = LlamaCppBackend(_load(tiny_gguf, max_batch=8, options={"n_batch": 32}))
    together = _answer(warm, *requests)
    assert together.ids == alone
    assert sum(_answer(warm, *requests).cached.values()) > 8 * 60
    assert cold._kept == {}


def test_requests_wait_for_room_and_nothing_is_lost_when_the_cache_is_full(tiny_gguf: Model) -> None:
    backend = LlamaCppBackend(_load(tiny_gguf, max_batch=12, context_length=256))
    room = backend._context.tokens
    requests = [_add(number, _prompt(200, seed=number), max_tokens=50) for number in range(20)]
    most = 0
    told = Told()
    for each in requests:
        backend.add(each)
    while backend.busy:
        backend.step(told, lambda: None)
        most = max(most, len(backend._running))
        assert sum(len(each.ids) for each in backend._running.values()) <= room
    assert room == 8 * 256
    assert most == 8  # so many of 250 tokens fit, though twelve might run
    assert {len(ids) for ids in told.ids.values()} == {50}
    slots = [*backend._free, *backend._kept]
    assert sorted(slots) == sorted(set(slots)) == list(range(12 + 16))
    with pytest.raises(ResourceError, match=f"holds {room} tokens"):
        backend.add(_add(99, _prompt(200), max_tokens=room))


def test_a_cancelled_request_leaves_at_once(tiny_gguf: Model) -> None:
    backend = LlamaCppBackend(_load(tiny_gguf, max_batch=1))
    backend.add(_add(1, _prompt(20), max_tokens=900))
    backend.add(_add(2, _prompt(20, seed=6)))
    told = Told()
    for _ in range(3):
        backend.step(told, lambda: None)
    backend.cancel(1)
    backend.cancel(77)
    while backend.busy:
        backend.step(told, lambda: None)
    assert len(told.ids[1]) == 3
    assert 1 not in told.finish
    assert told.finish[2] == "length"


def test_a_seed_repeats_an_answer_in_any_company(tiny_gguf: Model) -> None:
    backend = LlamaCppBackend(_load(tiny_gguf))
    sampled = {"temperature": 1.5, "top_p": 0.95}
    alone = _answer(backend, _add(1, _prompt(30), seed=5, **sampled)).ids[1]
    crowd = [_add(number, _prompt(30, seed=number), seed=number, **sampled) for number in (2, 3)]
    assert _answer(backend, *crowd, _add(4, _prompt(30), seed=5, **sampled)).ids[4] == alone
    assert _answer(backend, _add(5, _prompt(30), seed=6, **sampled)).ids[5] != alone


def test_tokens_are_drawn_as_often_as_they_are_likely() -> None:
    logits = np.log(np.array([0.1, 0.4, 0.3, 0.2], np.float32))
    chance = np.random.default_rng(0)
    whole = [choose(logits, Sampling(temperature=1.0), chance) for _ in range(4000)]
    assert np.bincount(whole) / 4000 == pytest.approx([0.1, 0.4, 0.3, 0.2], abs=0.03)
    cut = [choose(logits, Sampling(temperature=1.0, top_p=0.6), chance) for _ in range(4000)]
    assert np.bincount(cut, minlength=4) / 4000 == pytest.approx([0, 4 / 7, 3 / 7, 0], abs=0.03)
    sharp = [choose(logits, Sampling(temperature=0.5), chance) for _ in range(4000)]
    assert np.bincount(sharp) / 4000 == pytest.approx(np.array([1, 16, 9, 4]) / 30, abs=0.03)
    assert choose(logits, Sampling(temperature=0.0), None) == 1
    flat = [choose(np.zeros(3000, np.float32), Sampling(temperature=1.0), chance) for _ in range(4000)]
    assert len(set(flat)) > 1800  # also those that are not among the likeliest few
    wide = np.where(np.arange(3000) % 10 == 0, 5.0, -5.0).astype(np.float32)
    nucleus = {choose(wide, Sampling(temperature=1.0, top_p=0.9), chance) for _ in range(2000)}
    assert all(token % 10 == 0 for token in nucleus)


def test_a_score_counts_each_token_once_however_long_the_portions(tiny_gguf: Model) -> None:
    prompt, answer = tuple(_prompt(70)), tuple(_prompt(90, seed=8))
    wide = LlamaCppBackend(_load(tiny_gguf)).score([Score(1, prompt, answer)])[0]
    narrow = LlamaCppBackend(_load(tiny_gguf, options={"n_batch": 16})).score([Score(1, prompt, answer)])[0]
    assert len(wide) == 90
    assert narrow == pytest.approx(wide, abs=LOGPROB)
    # A score beside a request in work disturbs neither.
    backend = LlamaCppBackend(_load(tiny_gguf))
    undisturbed = _answer(backend, _add(1, _prompt(20))).ids[1]
    backend.add(_add(2, _prompt(20)))
    told = Told()
    while backend.busy:
        backend.step(told, lambda: None)
        assert backend.score([Score(3, prompt, answer)])[0] == pytest.approx(wide, abs=1e-4)
    assert told.ids[2] == undisturbed


def test_a_token_beyond_the_vocabulary_fails_its_request_alone(tiny_gguf: Model) -> None:
    backend = LlamaCppBackend(_load(tiny_gguf))
    with pytest.raises(ModelError, match="has 512 tokens, and the prompt holds token 512"):
        backend.add(_add(1, [3, 512]))
    assert not backend.busy
    with pytest.raises(ConfigError, match="n_batch is 0"):
        LlamaCppBackend(_load(tiny_gguf, options={"n_batch": 0}))


def test_the_cache_takes_no_more_than_a_quarter_of_memory(tiny_gguf: Model) -> None:
    path = gguf_path(tiny_gguf.path)
    per_token = 2 * 2 * 2 * 16 * 2
    assert cache_tokens(path, _load(tiny_gguf, max_batch=32), 2**30) == 8 * 1024
    assert cache_tokens(path, _load(tiny_gguf, max_batch=32), 4 * per_token * 3000) == 3000
    with pytest.raises(ResourceError, match="one conversation of 1024 tokens"):
        cache_tokens(path, _load(tiny_gguf), 4 * per_token * 1000)


def test_a_library_of_another_layout_is_refused_not_guessed_at() -> None:
    library = Library()
    library.inference()
    whole = library._library.llama_context_default_params()
    moved = Params()
    ctypes.memmove(ctypes.byref(moved, 4), ctypes.byref(whole), 300)
    library._check("llama_context_params", whole, _CONTEXT)
    with pytest.raises(EngineError, match=r"lays out llama_context_params differently: n_ctx is"):
        library._check("llama_context_params", moved, _CONTEXT)
    for layout, params in ((_CONTEXT, whole), (_MODEL, library._library.llama_model_default_params())):
        for field, (offset, _, _) in layout.items():
            damaged = Params.from_buffer_copy(params)
            damaged.content[offset] ^= 0x55
            with pytest.raises(EngineError, match=f"{field} is"):
                library._check("params", damaged, layout)


def test_a_broken_file_is_one_sentence(tiny_gguf: Model, tmp_path: Path) -> None:
    path = tmp_path / "broken.gguf"
    path.write_bytes(gguf_path(tiny_gguf.path).read_bytes()[:100_000])
    with pytest.raises(ModelError, match=r"llama\.cpp does not open .*broken\.gguf: .+\."):
        open_model(open_library(), str(path))
    with pytest.raises(ModelError, match="holds 0 GGUF files"):
        gguf_path(tmp_path / "none")
