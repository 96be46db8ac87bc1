"""The teacher beside the student: does it read the same tokens, and what does it say."""

import json
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from torch import Tensor

from vivace.errors import ModelError
from vivace.models import ChatTokenizer, load_causal_lm
from vivace.train.batches.rows import IGNORED
from vivace.train.distillation.loss import Spoken
from vivace.train.head_loss import backbone, is_plain_head

_ANSWERS = 'Take a teacher of the same family, or method = "answers" in [train.distill], which learns from texts.'


class Teacher:
    """A frozen model that is asked what it would say next."""

    def __init__(self, folder: Path, dtype: str, device: str) -> None:
        model: Any = load_causal_lm(folder, dtype if device == "cuda" else "float32")
        self.model = model.requires_grad_(False).to(device)
        self.plain = is_plain_head(self.model)

    def says(self, given: dict[str, Tensor], labels: Tensor) -> Spoken:
        """Return what it would say before each label that is learned, without a gradient."""
        with torch.no_grad():
            return spoken(self.model, self.plain, given, labels)


def spoken(model: Any, plain: bool, given: dict[str, Tensor], labels: Tensor) -> Spoken:
    """Return what a model would say before each label that is learned; the head of a plain one is not applied yet."""
    learned = labels[:, 1:] != IGNORED
    if plain:
        hidden = backbone(model)(**given, use_cache=False).last_hidden_state
        return Spoken(hidden[:, :-1][learned], model.get_output_embeddings().weight)
    return Spoken(model(**given, use_cache=False).logits[:, :-1][learned], None)


def check_same_tokens(teacher: Path, student: Path, longest: int) -> None:
    """Raise `ModelError` where the two would not read the same conversation as the same tokens."""
    ours, theirs = _read(student), _read(teacher)
    words, others = ours.get_vocab(with_added_tokens=True), theirs.get_vocab(with_added_tokens=True)
    if words != others:
        differing = sum(words.get(word) != others.get(word) for word in words.keys() | others.keys())
        raise ModelError(
            f"Teacher and student have different vocabularies ({len(others):,} and {len(words):,} tokens, of which "
            f"{differing:,} differ): their distributions cannot be compared.",
            _ANSWERS,
        )
    if _cutting(ours) != _cutting(theirs):
        raise ModelError("Teacher and student know the same tokens, but cut text into them differently.", _ANSWERS)
    mine, yours = ChatTokenizer.open(student), ChatTokenizer.open(teacher)
    if mine.template != yours.template:
        raise ModelError("Teacher and student have different chat templates.", _ANSWERS)
    if mine.eos_ids != yours.eos_ids:
        raise ModelError(
            f"Teacher and student end answers differently: with tokens {sorted(yours.eos_ids)} and "
            f"{sorted(mine.eos_ids)}.",
            _ANSWERS,
        )
    wanted = min(longest, mine.context_length)
    if yours.context_length < wanted:
        raise ModelError(
            f"The teacher reads {yours.context_length:,} tokens, conversations have up to {wanted:,}.",
            f"Set max_length = {yours.context_length} in [train].",
        )


def _read(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # tokenizers raises bare Exception
        raise ModelError(f"{path} cannot be read: {error}.") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _cutting(tokenizer: Tokenizer) -> dict[str, Any]:
    """Return everything that decides how text is cut; a post-processor adds tokens, which the template does here."""
    told: dict[str, Any] = json.loads(tokenizer.to_str())
    return {name: told.get(name) for name in ("model", "normalizer", "pre_tokenizer", "added_tokens")}
