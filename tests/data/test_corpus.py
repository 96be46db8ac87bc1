"""Rows on disk: read back as they were, by place and in order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.data.rooms import corpus_of
from vivace.data.corpus import Spool
from vivace.data.corpus import spool as module
from vivace.data.corpus.sketches import ngrams, shingles
from vivace.data.rows import Row
from vivace.data.trail import StepTrail
from vivace.domain import Example, Message


def row(name: str, text: str = "hello there") -> Row:
    return Row(Example(name, (Message("user", text), Message("assistant", "yes")), content_hash=name))


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(1, 60))
def test_records_come_back_in_order_and_by_place(records: list[bytes], block_bytes: int) -> None:
    import tempfile

    whole = module.BLOCK_BYTES
    module.BLOCK_BYTES = block_bytes
    try:
        with tempfile.TemporaryDirectory() as folder:
            spool = Spool(Path(folder) / "x")
            half = len(records) // 2
            spool.extend(records[:half])
            spool.extend_joined(b"".join(records[half:]), np.array([len(item) for item in records[half:]]))
            spool.sync()
            assert list(spool.records()) == records
            assert [spool.record(place) for place in range(len(spool))] == records
            spool.clear()
            assert list(spool.records()) == []
            spool.extend(records)
            spool.sync()
            assert list(spool.records()) == records
            spool.close()
            assert list(Path(folder).iterdir()) == []
    finally:
        module.BLOCK_BYTES = whole


def test_a_dropped_row_keeps_its_place_and_is_passed_over(tmp_path: Path) -> None:
    corpus = corpus_of([row("a"), row("b"), row("c")], tmp_path)
    trail = StepTrail("some step")
    corpus.drop(1, trail, "because", "so")
    assert [(place, item.example.id) for place, item in corpus.rows()] == [(0, "a"), (2, "c")]
    assert corpus.row(1).example.id == "b"
    assert (len(corpus), trail.drops) == (2, {"because": 1})
    corpus.drops.sync()
    assert b'"reason":"because"' in next(corpus.drops.records())
    corpus.close()


def test_annotations_are_in_the_metadata_of_every_reading(tmp_path: Path) -> None:
    corpus = corpus_of([row("a"), row("b")], tmp_path)
    corpus.annotate("topic", {1: "refund"})
    corpus.annotate("topic", {0: "other"})
    corpus.annotate("topic", {1: "return"})
    assert [item.example.metadata for _place, item in corpus.rows()] == [{"topic": "other"}, {"topic": "return"}]
    assert corpus.row(1).example.metadata == {"topic": "return"}
    corpus.close()


WORDS = st.lists(st.lists(st.integers(0, 5), max_size=8), min_size=1, max_size=6)


@given(WORDS, st.integers(1, 5))
def test_equal_runs_of_words_have_equal_hashes_wherever_they_stand(texts: list[list[int]], size: int) -> None:
    flat = np.array([word * 7919 + 1 for text in texts for word in text], dtype=np.uint64)
    counts = np.array([len(text) for text in texts])
    grams, runs = ngrams(flat, counts, size)
    plain = [tuple(text[start : start + size]) for text in texts for start in range(max(1, len(text) - size + 1))]
    assert int(runs.sum()) == len(grams) == len(plain)
    of_gram: dict[tuple[int, ...], int] = {}
    for gram, key in zip(grams, plain, strict=True):
        assert of_gram.setdefault(key, int(gram)) == int(gram)
    assert len(set(of_gram.values())) == len(of_gram)


def test_shingles_of_a_short_text_are_all_it_has() -> None:
    words = np.array([1, 2], dtype=np.uint64)
    assert len(shingles(words)) == 1
    assert len(shingles(words[:0])) == 1
    assert shingles(words)[0] != shingles(words[::-1])[0]


def test_a_text_of_one_word_is_unlike_one_that_repeats_it() -> None:
    one, two = np.array([5], dtype=np.uint64), np.array([5, 5], dtype=np.uint64)
    assert shingles(one)[0] != shingles(two)[0]


@pytest.mark.parametrize("count", [0, 1, 5])
def test_an_empty_corpus_is_one(tmp_path: Path, count: int) -> None:
    corpus = corpus_of([row(str(n)) for n in range(count)], tmp_path)
    assert (len(corpus), list(corpus.places())) == (count, list(range(count)))
    corpus.close()
