"""Prompts have the length that was asked for and begin alike where the trace says so."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vivace.bench.traffic.lengths import Meter, Prose, fit, prompt, replayed
from vivace.bench.traffic.traces import BLOCK_TOKENS, Recorded
from vivace.domain import Message, Model
from vivace.engines.tokens import open_tokenizer

METER = Meter(1.25, 12.0)


def text(tokens: int, name: str, ids: tuple[int, ...] = ()) -> str:
    (message,) = prompt(Prose(seed=1), METER, tokens, name, ids)
    return message.content


@given(st.floats(0.5, 4), st.integers(0, 40))
def test_a_meter_is_learned_from_two_texts(per_word: float, overhead: int) -> None:
    found = fit(round(40 * per_word) + overhead, round(440 * per_word) + overhead)
    assert found.tokens_per_word == pytest.approx(per_word, abs=0.01)
    assert found.words(1000) == pytest.approx((1000 - overhead) / per_word, rel=0.02)


def test_prompts_share_as_much_as_their_ids_do_and_no_more() -> None:
    block = round(BLOCK_TOKENS / METER.tokens_per_word)
    one, two = text(1400, "a", (7, 8, 9)).split(), text(1400, "b", (7, 8, 5)).split()
    assert one[: 2 * block] == two[: 2 * block]
    assert one[2 * block : 2 * block + 20] != two[2 * block : 2 * block + 20]
    assert text(1400, "a") != text(1400, "b")
    assert text(1400, "a") == text(1400, "a")


def test_a_prompt_is_no_longer_than_its_blocks_when_it_ends_within_one() -> None:
    assert len(text(300, "a", (7, 8, 9)).split()) == METER.words(300)
    assert text(600, "a", (7, 8)).startswith(text(300, "b", (7,)))


def test_a_real_tokenizer_counts_what_was_asked_for(tiny_model: Path) -> None:
    tokenizer = open_tokenizer(Model("tiny", tiny_model, "hf", "fp32"))
    prose = Prose(seed=3)
    meter = fit(*(len(tokenizer.encode_chat((Message("user", words),))) for words in prose.trials()))
    for tokens in (80, 400, 900):
        counted = len(tokenizer.encode_chat(prompt(prose, meter, tokens, "x")))
        assert counted == pytest.approx(tokens, rel=0.12)  # its words are of 1 to 6 tokens


def test_a_trace_becomes_requests_of_its_lengths() -> None:
    requests = replayed([Recorded(0, 50, 7), Recorded(1, 60, 9)], Prose(), METER, "run")
    assert [request.id for request in requests] == ["run/0", "run/1"]
    assert [request.sampling.max_tokens for request in requests] == [7, 9]
