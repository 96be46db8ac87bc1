"""Our merges are the library's, and a piece's ancestors are all it takes to make it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from tests.compress.trim.vocabularies import KINDS, shop_texts
from vivace.compress.trim.merges import Merges
from vivace.compress.trim.proof import random_texts
from vivace.compress.trim.tokenizer_files import renumbered
from vivace.compress.trim.vocabulary import Vocabulary


def _words(vocabulary: Vocabulary, text: str) -> list[list[str]]:
    """Return the symbols that each word of a text begins with, before anything is merged."""
    encoding = vocabulary.tokenizer.encode(text, add_special_tokens=False)
    whole = {*vocabulary.byte_pieces.values(), *vocabulary.added}
    words: dict[int | None, list[str]] = {}
    for number, word in zip(encoding.ids, encoding.word_ids, strict=True):
        piece = vocabulary.names[number]
        words.setdefault(word, []).extend([piece] if piece in whole else piece)
    return list(words.values())


@pytest.fixture(scope="module", params=["byte-level", "byte-fallback"])
def vocabulary(request: pytest.FixtureRequest) -> Vocabulary:
    return Vocabulary(KINDS[request.param]())


def test_words_become_the_pieces_that_the_library_makes_of_them(vocabulary: Vocabulary) -> None:
    merges = Merges(vocabulary)
    for text in (*shop_texts(), *random_texts(500, 3, list(vocabulary.added))):
        ours = [piece for word in _words(vocabulary, text) for piece in merges.apply(word)[0]]
        assert ours == vocabulary.tokenizer.encode(text, add_special_tokens=False).tokens, text


@given(st.text("abcd", min_size=1, max_size=30))
def test_dense_merges_with_several_ways_to_a_piece_are_the_librarys(text: str) -> None:
    vocabulary = _dense()
    merges = Merges(vocabulary)
    assert merges.apply(list(text))[0] == vocabulary.tokenizer.encode(text).tokens


def _dense() -> Vocabulary:
    letters = "abcd"
    pieces = [*letters, *("ab", "bc", "cd", "da", "abc", "bcd", "dab", "aa", "abcd", "bb", "cda", "abab", "aab")]
    pairs = [(piece[:cut], piece[cut:]) for piece in pieces for cut in range(1, len(piece))]
    kept = [pair for pair in pairs if set(pair) <= set(pieces)]
    tokenizer = Tokenizer(models.BPE(vocab={piece: n for n, piece in enumerate(pieces)}, merges=kept))
    tokenizer.decoder = decoders.Fuse()
    return Vocabulary(tokenizer)


def test_a_piece_with_its_ancestors_alone_is_still_made(vocabulary: Vocabulary) -> None:
    merges = Merges(vocabulary)
    for piece in merges.products[::17]:
        kept = {*merges.ancestors(piece), piece, *([vocabulary.unknown] if vocabulary.unknown else [])}
        ids = [vocabulary.pieces[one] for one in kept] + list(vocabulary.added.values())
        order = sorted(set(ids), key=lambda number: (number not in set(vocabulary.pieces.values()), number))
        told = json.loads(renumbered(vocabulary, {old: new for new, old in enumerate(order)}).to_str())
        told |= {"normalizer": None, "pre_tokenizer": None}
        assert Tokenizer.from_str(json.dumps(told)).encode(piece).tokens == [piece]
        assert all(len(one) < len(piece) for one in merges.ancestors(piece))


def test_a_piece_is_made_in_a_text_as_it_is_made_alone(vocabulary: Vocabulary) -> None:
    """Nothing outside of a piece's letters took part, so what it takes to make it does not depend on the text."""
    merges = Merges(vocabulary)
    for text in shop_texts()[::5]:
        for word in _words(vocabulary, text):
            pieces, made = merges.apply(word)
            assert made == {piece for piece in pieces if len(piece) > 1 and merges.can_make(piece)} | {
                one for piece in pieces for one in merges.ancestors(piece) if len(one) > 1
            }
