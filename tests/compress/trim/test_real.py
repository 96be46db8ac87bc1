"""The real SmolLM2's vocabulary of 49,152 tokens, trimmed to a shop's conversations."""

from pathlib import Path

import numpy as np
import pytest

from tests.compress.numbers import torch_logits
from tests.compress.trim.vocabularies import shop_texts
from vivace.compress.trim import trim_vocabulary
from vivace.compress.trim.proof import compare, random_texts
from vivace.compress.trim.vocabulary import Vocabulary
from vivace.domain import Message
from vivace.models import ChatTokenizer

pytestmark = [pytest.mark.real, pytest.mark.slow]


def test_the_real_model_keeps_a_quarter_of_its_tokens_and_says_the_same(real_model: Path, tmp_path: Path) -> None:
    chat = ChatTokenizer.open(real_model)
    texts = [chat.render([Message("user", text)]) for text in shop_texts()]
    facts = trim_vocabulary(real_model, texts, tmp_path / "out", keep=0.25)
    assert (facts["vocab_size_before"], facts["vocab_size_after"]) == (49_152, 12_288)
    assert facts["bytes_saved"] == 36_864 * 576 * 4
    before, after = Vocabulary.open(real_model), Vocabulary.open(tmp_path / "out")
    new = {name: number for number, name in after.names.items()}
    numbers = {old: new[name] for old, name in before.names.items() if name in new}
    domain = compare(before, after.tokenizer, numbers, texts)
    assert (domain.differences, domain.identical_pieces) == ([], len(texts))
    assert compare(before, after.tokenizer, numbers, random_texts(10_000, 99, list(before.added))).differences == []
    ids = chat.encode(texts[0])
    (theirs,) = torch_logits(real_model, [list(ids)])
    (ours,) = torch_logits(tmp_path / "out", [[numbers[number] for number in ids]])
    old = sorted(numbers)
    np.testing.assert_array_equal(ours[:, [numbers[number] for number in old]], theirs[:, old])
