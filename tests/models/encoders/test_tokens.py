"""Tokens of encoders: the tokenizer's own, cut where it hurts least."""

from pathlib import Path

import numpy as np
import pytest

from tests.train.encoders.material import build_tiny_encoder
from vivace.errors import ModelError
from vivace.models.encoders.tokens import EncoderTokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


def words(tokenizer: EncoderTokenizer, ids: tuple[int, ...]) -> str:
    return str(tokenizer._tokenizer.decode(list(ids), skip_special_tokens=False))


def test_a_pair_has_the_tokens_and_types_of_the_tokenizer(folder: Path) -> None:
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(folder, local_files_only=True)("track my parcel", "it is open")
    (row,) = EncoderTokenizer(folder, 64).pairs([("track my parcel", "it is open")])
    assert list(row.ids) == reference["input_ids"]
    assert list(row.types) == reference["token_type_ids"]
    assert (row.second, list(row.types)) == (5, [0] * 5 + [1] * (len(row.ids) - 5))


def test_a_long_text_loses_its_end_and_a_long_context_its_beginning(folder: Path) -> None:
    tokenizer = EncoderTokenizer(folder, 10)
    (row,) = tokenizer.texts(["refund " + "money " * 30])
    assert len(row.ids) == 10
    assert words(tokenizer, row.ids).startswith("[CLS] refund money")
    (pair,) = tokenizer.pairs([("refund " + "money " * 30 + "parcel", "open")])
    assert len(pair.ids) == 10
    said = words(tokenizer, pair.ids)
    assert "refund" not in said
    assert said.endswith("parcel [SEP] open [SEP]")


def test_a_long_answer_leaves_room_for_the_end_of_the_context(folder: Path) -> None:
    tokenizer = EncoderTokenizer(folder, 23)
    (pair,) = tokenizer.pairs([("track my parcel " * 9 + "refund", "open " * 50)])
    assert len(pair.ids) == 23
    assert words(tokenizer, pair.ids[: pair.second]).endswith("refund [SEP]")
    assert words(tokenizer, pair.ids).count("open") == 15


def test_padding_is_masked(folder: Path) -> None:
    tokenizer = EncoderTokenizer(folder, 64)
    padded = tokenizer.pad(tokenizer.texts(["track my parcel", "open"]))
    assert padded["input_ids"].shape == (2, 5)
    np.testing.assert_array_equal(padded["attention_mask"], [[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert set(padded) == {"input_ids", "attention_mask", "token_type_ids"}


def test_text_that_is_no_text_is_taken(folder: Path) -> None:
    rows = EncoderTokenizer(folder, 64).texts(["", "\ud800 open", "x" * 1_000_000])
    assert all(len(row.ids) <= 64 for row in rows)


def test_roberta_keeps_the_positions_of_its_padding_free(tmp_path: Path) -> None:
    folder = build_tiny_encoder(tmp_path, kind="roberta")
    assert EncoderTokenizer(folder, 500).max_length == 127


def test_a_folder_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no tokenizer\.json"):
        EncoderTokenizer(tmp_path, 64)
