"""Tokens become chunks whose text is the whole answer, whatever the batches they come in."""

from hypothesis import given
from hypothesis import strategies as st

from vivace.domain import Chunk
from vivace.engines.answer import Answer
from vivace.engines.frames import Tokens
from vivace.engines.tokens import ByteTokenizer

texts = st.text(alphabet="abé👋 ", max_size=30)


def told(text: str, stops: list[str], sizes: list[int], finish: str) -> list[Chunk]:
    """Hand the bytes of a text over in batches of the given sizes, and stop listening when the answer is cut."""
    ids = list(text.encode())
    answer = Answer(ByteTokenizer(), stops, 7)
    chunks = []
    while True:
        size = sizes.pop() if sizes else len(ids)
        batch, ids = ids[:size], ids[size:]
        done = not ids
        chunk = answer.take(Tokens(1, tuple(batch), finish if done else None))  # type: ignore[arg-type]
        if chunk is not None:
            chunks.append(chunk)
        if done or answer.cut:
            return chunks


@given(texts, st.lists(st.integers(0, 5)), st.sampled_from(["stop", "length"]))
def test_no_token_and_no_character_is_lost(text: str, sizes: list[int], finish: str) -> None:
    chunks = told(text, [], sizes, finish)
    assert "".join(chunk.text for chunk in chunks) == text
    assert [token for chunk in chunks for token in chunk.token_ids] == list(text.encode())
    assert chunks[-1].finish_reason == finish
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == len(text.encode())
    assert all(chunk.text and chunk.usage is None for chunk in chunks[:-1])


@given(texts, st.text(alphabet="abé👋 ", min_size=1, max_size=3), st.lists(st.integers(1, 5)))
def test_a_stop_string_ends_the_answer_in_front_of_it(text: str, stop: str, sizes: list[int]) -> None:
    chunks = told(text, [stop], sizes, "length")
    assert "".join(chunk.text for chunk in chunks) == text.split(stop, maxsplit=1)[0]
    assert chunks[-1].finish_reason == ("stop" if stop in text else "length")
    assert chunks[-1].usage is not None
    if stop in text:
        assert chunks[-1].usage.completion_tokens == len((text.split(stop, maxsplit=1)[0] + stop).encode())


def test_a_character_cut_in_half_by_the_limit_is_told_as_replacement() -> None:
    answer = Answer(ByteTokenizer(), (), 1)
    chunk = answer.take(Tokens(1, tuple("é".encode()[:1]), "length"))
    assert chunk is not None
    assert chunk.text == "\ufffd"
