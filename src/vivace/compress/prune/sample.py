"""The domain's conversations as batches, and the loss on their answers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vivace.compress.calibration import shuffled
from vivace.compress.prune.decoder import Decoder
from vivace.config.prune import PruneSettings
from vivace.domain import Example
from vivace.errors import DataError, ModelError
from vivace.models import ChatTokenizer
from vivace.stats import Floats
from vivace.store import read_examples
from vivace.train.batches.rows import IGNORED, Row, encode_examples
from vivace.train.head_loss import head_loss, is_plain_head

BATCH_TOKENS = 2048
FEWEST = 8  # conversations of which an interval is told


@dataclass(frozen=True)
class Batch:
    """Conversations side by side, padded on the right: `ids`, `mask` and `labels` are (rows, T)."""

    ids: Tensor
    mask: Tensor
    labels: Tensor

    @property
    def real(self) -> Tensor:
        """Which positions are no padding, (rows, T)."""
        return self.mask.bool()


@dataclass(frozen=True)
class Sample:
    """What importance is taken from (`calibration`) and what tells the damage (`held_out`), from different rows.

    `few` are some of the calibration's rows, for what takes many passes.
    """

    calibration: tuple[Batch, ...]
    few: tuple[Batch, ...]
    held_out: tuple[Batch, ...]
    facts: dict[str, Any]


def read_sample(dataset: Path, folder: Path, system: str, settings: PruneSettings, max_length: int) -> Sample:
    """Encode conversations as they are served: some train ones to judge by, others to measure on.

    The others are of the validation split; where it has fewer than eight, train conversations that nothing was
    judged by. Which ones are taken depends on their ids and the seed alone.
    """
    tokenizer = ChatTokenizer.open(folder)
    seed, held_out = settings.seed, settings.held_out
    longest = min(max_length, tokenizer.context_length)
    file = dataset / "examples.jsonl" if dataset.is_dir() else dataset
    train = shuffled(read_examples(file, "train"), seed)
    if len(train) < 2:
        raise DataError(f"{len(train)} train conversations are too few to prune by.", "Add conversations to [data].")
    examples = min(settings.examples, len(train) // 2)
    rows = encode_examples(tokenizer, train[:examples], system, longest).rows
    split, others = (
        "validation",
        _rows(tokenizer, shuffled(read_examples(file, "validation"), seed)[:held_out], system, longest),
    )
    if len(others) < FEWEST:
        split, others = "train", _rows(tokenizer, train[examples : examples + held_out], system, longest)
    if not others:
        raise DataError("No conversation is left to measure pruning on.", "Add conversations to [data].")
    facts = {
        "calibration_examples": len(rows),
        "layer_examples": len(rows[: settings.layer_examples]),
        "calibration_tokens": sum(len(row.ids) for row in rows),
        "held_out_split": split,
        "held_out_examples": len(others),
        "held_out_tokens": sum(row.learned for row in others),
    }
    return Sample(make_batches(rows), make_batches(rows[: settings.layer_examples]), make_batches(others), facts)


def _rows(tokenizer: ChatTokenizer, examples: Sequence[Example], system: str, longest: int) -> tuple[Row, ...]:
    try:
        return encode_examples(tokenizer, examples, system, longest).rows if examples else ()
    except (DataError, ModelError):
        return ()  # none of them can be encoded: others are measured on


def make_batches(rows: Sequence[Row], tokens: int = BATCH_TOKENS) -> tuple[Batch, ...]:
    """Return rows of like length side by side, at most `tokens` a batch with padding (a longer row has its own)."""
    ordered = sorted(rows, key=lambda row: (len(row.ids), row.ids))
    batches: list[list[Row]] = []
    for row in ordered:
        if batches and (len(batches[-1]) + 1) * len(row.ids) <= tokens:
            batches[-1].append(row)
        else:
            batches.append([row])
    return tuple(map(_pad, batches))


def _pad(rows: Sequence[Row]) -> Batch:
    length = max(len(row.ids) for row in rows)
    ids = torch.zeros((len(rows), length), dtype=torch.long)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = torch.tensor(row.ids)
        labels[i, : len(row.ids)] = torch.tensor(row.labels)
        mask[i, : len(row.ids)] = 1
    return Batch(ids, mask, labels)


class AnswerLoss:
    """The loss on the assistant's tokens, from the hidden states after the last layer."""

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._plain = is_plain_head(decoder.model)

    def __call__(self, hidden: Tensor, batch: Batch) -> Tensor:
        """Return the summed cross entropy of each row, (rows,), for `hidden` (rows, T, H) before the last norm."""
        model = self._decoder.model
        normed = self._decoder.trunk.norm(hidden)
        if self._plain:
            weight = model.get_output_embeddings().weight
            rows = range(len(batch.ids))
            return torch.stack([head_loss(normed[i : i + 1], weight, batch.labels[i : i + 1])[0] for i in rows])
        return torch.stack([self._by_the_models_head(normed[i : i + 1], batch, i) for i in range(len(batch.ids))])

    def _by_the_models_head(self, normed: Tensor, batch: Batch, row: int) -> Tensor:
        """Let the model's own code make the logits (it may cap or scale them), with its trunk answering `normed`."""
        trunk = self._decoder.trunk
        hook = trunk.norm.register_forward_hook(lambda _module, _given, _made: normed)
        layers, trunk.layers = trunk.layers, torch.nn.ModuleList()
        try:
            logits = self._decoder.model(input_ids=batch.ids[row : row + 1], use_cache=False).logits
        finally:
            trunk.layers = layers
            hook.remove()
        following = batch.labels[row : row + 1, 1:]
        return torch.nn.functional.cross_entropy(
            logits[:, :-1].float().transpose(1, 2), following, ignore_index=IGNORED, reduction="sum"
        )


def learned(batch: Batch) -> Tensor:
    """Return how many tokens of each row are in the loss, (rows,)."""
    return (batch.labels[:, 1:] != IGNORED).sum(dim=1)


def loss_of(rows: Floats) -> float:
    """Return the loss per answer token of rows (summed loss, tokens)."""
    return float(rows[:, 0].sum() / rows[:, 1].sum())


def loss_rows(losses: Tensor, batch: Batch) -> Floats:
    """Return summed losses as rows (summed loss, tokens)."""
    return np.stack((losses.double().numpy(), learned(batch).double().numpy()), axis=1)
