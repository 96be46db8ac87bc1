"""Every text comes back through a trimmed vocabulary as through the whole one; what cannot be proved is refused."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, processors

from tests.compress.trim.vocabularies import (
    KINDS,
    byte_fallback,
    byte_level,
    shop_texts,
    unigram,
    word_piece,
)
from tests.tiny import SPECIALS
from vivace.compress.trim.exactness import check_trimmable
from vivace.compress.trim.proof import compare, random_texts
from vivace.compress.trim.selection import Selector
from vivace.compress.trim.tokenizer_files import renumbered
from vivace.compress.trim.vocabulary import Vocabulary
from vivace.data.tokens.counting import token_counts
from vivace.errors import ModelError

DOMAIN = shop_texts()[:12]


class Trimmed:
    """A vocabulary, its smaller version, and the old and new ids."""

    def __init__(self, tokenizer: Tokenizer, *, keep: float = 1, min_count: int = 1, multiple: int = 1) -> None:
        self.vocabulary = Vocabulary(tokenizer)
        check_trimmable(self.vocabulary)
        self.selector = Selector(self.vocabulary, [], len(self.vocabulary.names))
        encoded = [one.ids for one in tokenizer.encode_batch(list(DOMAIN), add_special_tokens=False)]
        counts = token_counts(encoded, max(self.vocabulary.names) + 1)
        self.selection = self.selector.select(counts, keep=keep, min_count=min_count, multiple=multiple)
        self.numbers = self.selection.numbers
        self.tokenizer = renumbered(self.vocabulary, self.numbers)


@pytest.fixture(scope="module", params=list(KINDS))
def smallest(request: pytest.FixtureRequest) -> Trimmed:
    """Nothing general: only what must stay and what twelve turns use."""
    return Trimmed(KINDS[request.param](), keep=10)


def test_tokens_are_really_dropped(smallest: Trimmed) -> None:
    assert len(smallest.numbers) < 0.85 * len(smallest.vocabulary.names)


def test_the_domains_texts_are_cut_into_the_same_pieces(smallest: Trimmed) -> None:
    found = compare(smallest.vocabulary, smallest.tokenizer, smallest.numbers, DOMAIN)
    assert found.differences == []
    assert (found.texts, found.identical_pieces) == (len(DOMAIN), len(DOMAIN))
    for text in DOMAIN:
        old = smallest.vocabulary.tokenizer.encode(text, add_special_tokens=False)
        assert smallest.tokenizer.encode(text, add_special_tokens=False).tokens == old.tokens


def test_other_texts_of_the_shop_come_back_too(smallest: Trimmed) -> None:
    found = compare(smallest.vocabulary, smallest.tokenizer, smallest.numbers, shop_texts()[12:])
    assert found.differences == []
    assert found.with_dropped_tokens > 0


@pytest.mark.slow
def test_ten_thousand_random_texts_come_back(smallest: Trimmed) -> None:
    texts = random_texts(10_000, 11, list(smallest.vocabulary.added))
    found = compare(smallest.vocabulary, smallest.tokenizer, smallest.numbers, texts)
    assert found.differences == []
    assert found.texts == 10_000


@pytest.mark.parametrize("kind", list(KINDS))
def test_every_text_comes_back(kind: str) -> None:
    trimmed = Trimmed(KINDS[kind](), keep=10)
    alphabet = st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from("aeiou tn\n ▁<0x41>中文é😀#'"))

    @settings(max_examples=150)
    @given(st.text(alphabet, max_size=60))
    def holds(text: str) -> None:
        assert compare(trimmed.vocabulary, trimmed.tokenizer, trimmed.numbers, [text]).differences == []

    holds()


@pytest.mark.parametrize("processor", ["template", "roberta", "sequence"])
def test_what_the_processor_puts_around_a_text_is_renumbered(processor: str) -> None:
    tokenizer = byte_fallback()  # its chat tokens come after the vocabulary
    start, end = (str(token) for token in SPECIALS[1:])
    ids = [(token, tokenizer.token_to_id(token)) for token in (start, end)]
    template = processors.TemplateProcessing(single=f"{start} $A {end}", special_tokens=ids)
    tokenizer.post_processor = {
        "template": template,
        "roberta": processors.RobertaProcessing(ids[1], ids[0]),
        "sequence": processors.Sequence([processors.ByteLevel(trim_offsets=False), template]),
    }[processor]
    trimmed = Trimmed(tokenizer, keep=10)
    assert tokenizer.encode("Hello").tokens[0] == start
    assert trimmed.tokenizer.encode("Hello").ids[0] == trimmed.tokenizer.token_to_id(start) < ids[0][1]
    assert trimmed.tokenizer.encode("Hello").ids[-1] == trimmed.tokenizer.token_to_id(end)


def test_bytes_of_a_dropped_character_are_read_back_as_the_character() -> None:
    trimmed = Trimmed(byte_fallback(), keep=10)
    assert "中" in trimmed.vocabulary.pieces
    assert trimmed.tokenizer.token_to_id("中") is None
    assert trimmed.tokenizer.token_to_id("▁") is not None  # read as a space, so its bytes are not the same
    ids = trimmed.tokenizer.encode("中文").ids
    assert len(ids) == 7
    assert trimmed.tokenizer.decode(ids) == "中文"


def test_rare_tokens_may_go_and_their_texts_still_come_back() -> None:
    often, always = Trimmed(byte_level(), keep=10, min_count=5), Trimmed(byte_level(), keep=10)
    assert len(often.numbers) < len(always.numbers)
    found = compare(often.vocabulary, often.tokenizer, often.numbers, DOMAIN)
    assert found.differences == []
    assert found.with_dropped_tokens > 0


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("keep", [0.9, 1000])
def test_the_most_general_tokens_fill_the_vocabulary_up(kind: str, keep: float) -> None:
    trimmed = Trimmed(KINDS[kind](), keep=keep, multiple=8)
    size = len(trimmed.vocabulary.names)
    assert len(trimmed.numbers) == min(size, -(-round(keep * size if keep <= 1 else keep) // 8) * 8)
    assert trimmed.selection.general > 0
    if trimmed.selector.merges is not None:
        dropped = trimmed.vocabulary.names.keys() - trimmed.numbers.keys()
        order = trimmed.selector.merges.products
        names = [trimmed.vocabulary.names[number] for number in dropped]
        # All of the first hundred merges stay.
        assert not set(order[:100]) & set(names)


def test_a_token_keeps_what_it_is_merged_from() -> None:
    trimmed = Trimmed(byte_level(), keep=10)
    merges = trimmed.selector.merges
    assert merges is not None
    names = {trimmed.vocabulary.names[number] for number in trimmed.numbers}
    for name in names & set(merges.products):
        assert merges.ancestors(name) <= names


def test_all_single_bytes_stay() -> None:
    assert {f"<0x{byte:02X}>" for byte in range(256)} <= set(Trimmed(byte_fallback(), keep=1).tokenizer.get_vocab())
    assert {f"<0x{byte:02X}>" for byte in range(256)} <= set(Trimmed(unigram(), keep=10).tokenizer.get_vocab())
    kept = Trimmed(byte_level(), keep=10).tokenizer.get_vocab()
    assert sum(len(name) == 1 for name in kept) == 256


Change = Callable[[dict[str, Any]], None]


def _replace(part: str, value: Any) -> Change:
    return lambda told: told.__setitem__(part, value)


def _set(key: str, value: Any) -> Change:
    return lambda told: told["model"].__setitem__(key, value)


def _without(piece: str) -> Change:
    def change(told: dict[str, Any]) -> None:
        vocab = told["model"]["vocab"]
        if isinstance(vocab, dict):
            vocab["@@lost"] = vocab.pop(piece)
        else:
            vocab[[name for name, _score in vocab].index(piece)][0] = "@@"

    return change


def _cheap_bytes(told: dict[str, Any]) -> None:
    for entry in told["model"]["vocab"]:
        if entry[0].startswith("<0x"):
            entry[1] = 0.0


def _merged_end(told: dict[str, Any]) -> None:
    told["model"]["merges"].append(["</", "s>"])
    for piece in ("</", "s>"):
        told["model"]["vocab"].setdefault(piece, len(told["model"]["vocab"]))
    told["normalizer"] = {"type": "NFKC"}


METASPACE = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": False}
REFUSED: list[tuple[Callable[[], Tokenizer], Change, str]] = [
    (byte_level, _replace("decoder", None), "no decoder"),
    (byte_level, _replace("decoder", {"type": "BPEDecoder", "suffix": "</w>"}), "treats each token by itself"),
    (byte_level, _set("dropout", 0.1), "at random"),
    (byte_level, _set("end_of_word_suffix", "</w>"), "mark within or at the end"),
    (
        byte_fallback,
        _replace("decoder", {"type": "Replace", "pattern": {"String": "▁▁"}, "content": " "}),
        "more than one character",
    ),
    (byte_fallback, _replace("decoder", METASPACE), "drops spaces at the beginning"),
    (byte_fallback, _merged_end, "can be made by normalizing"),
    (unigram, _cheap_bytes, "spell out its byte token"),
    (unigram, _without("e"), "no piece of its own"),
    (word_piece, _without("##e"), "no piece of its own"),
    (word_piece, _replace("pre_tokenizer", {"type": "WhitespaceSplit"}), "spaces before punctuation"),
]


@pytest.mark.parametrize(("make", "alter", "reason"), REFUSED, ids=[reason for _make, _alter, reason in REFUSED])
def test_what_could_come_back_otherwise_is_refused_with_the_reason(
    make: Callable[[], Tokenizer], alter: Change, reason: str
) -> None:
    told = json.loads(make().to_str())
    alter(told)
    with pytest.raises(ModelError, match=reason):
        check_trimmable(Vocabulary(Tokenizer.from_str(json.dumps(told))))


def test_word_level_vocabularies_are_refused() -> None:
    from tokenizers import decoders, models

    words = Tokenizer(models.WordLevel({"a": 0, "[UNK]": 1}, unk_token="[UNK]"))
    words.decoder = decoders.Fuse()
    with pytest.raises(ModelError, match="WordLevel"):
        check_trimmable(Vocabulary(words))


def test_random_texts_reach_all_planes_and_hold_markers() -> None:
    texts = "".join(random_texts(3000, 0, ["<|im_end|>"]))
    assert {ord(character) >> 16 for character in texts} >= set(range(17)) - {3}
    assert "<|im_end|>" in texts
    for part in ("\n", "\r\n", "\x00", "\u0301", "👩‍👩‍👧‍👦", "▁"):
        assert part in texts
    assert list(random_texts(5, 1, [])) == list(random_texts(5, 1, []))


def test_a_lost_merge_is_seen_by_the_comparison() -> None:
    """The comparison can fail: without one merge that the domain needs, texts are cut otherwise."""
    trimmed = Trimmed(byte_level(), keep=10)
    told = json.loads(trimmed.tokenizer.to_str())
    told["model"]["merges"] = told["model"]["merges"][1:]
    broken = Tokenizer.from_str(json.dumps(told))
    found = compare(trimmed.vocabulary, broken, trimmed.numbers, DOMAIN)
    assert {difference.what for difference in found.differences} == {"is cut into other pieces"}
    assert np.mean([difference.text in DOMAIN for difference in found.differences]) == 1


def test_a_lost_byte_is_seen_by_the_comparison() -> None:
    trimmed = Trimmed(byte_fallback(), keep=10)
    told = json.loads(trimmed.tokenizer.to_str())
    told["model"]["vocab"]["<0xE5>!"] = told["model"]["vocab"].pop("<0xE4>")
    found = compare(trimmed.vocabulary, Tokenizer.from_str(json.dumps(told)), trimmed.numbers, ["a 中 b"])
    assert [difference.what for difference in found.differences] == ["decodes to another text"]
