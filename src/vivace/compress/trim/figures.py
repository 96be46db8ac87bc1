"""What trimming saves and costs: bytes, parameters, the output layer's time, and tokens per word."""

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from vivace.compress.trim.embeddings import Embeddings
from vivace.compress.trim.general_text import ENGLISH, OTHER_LANGUAGES
from vivace.compress.trim.proof import batches
from vivace.compress.trim.rows import tensors_of, weight_files
from vivace.compress.trim.vocabulary import Vocabulary
from vivace.data.tokens.fertility import Fertility

_TRIALS = 15
_MAX_BYTES = 1 << 28


def weight_figures(before: Path, after: Path, embeddings: Embeddings, kept: int) -> dict[str, Any]:
    """Return bytes and parameters of both folders' weights; `share_saved` is the share of parameters gone."""
    told: dict[str, Any] = {}
    for name, folder in (("before", before), ("after", after)):
        tensors = [tensor for path in weight_files(folder) for tensor in tensors_of(path).values()]
        told[f"weight_bytes_{name}"] = sum(tensor.end - tensor.start for tensor in tensors)
        told[f"parameters_{name}"] = sum(math.prod(tensor.shape) for tensor in tensors)
    told["bytes_saved"] = told["weight_bytes_before"] - told["weight_bytes_after"]
    told["share_saved"] = round(1 - told["parameters_after"] / told["parameters_before"], 4)
    told["embedding_share_before"] = _embedding_share(before, embeddings, told["parameters_before"])
    told["embedding_share_after"] = _embedding_share(after, embeddings, told["parameters_after"])
    told["head_ms_before"], told["head_ms_after"] = head_ms([embeddings.rows, kept], embeddings.width)
    return told


def head_ms(rows: Sequence[int], width: int) -> list[float]:
    """Return the time one token's logits take here in float32 with so many rows, the best of alternating trials.

    Of layers above 256 MB a part is measured.
    """
    most = max(1, _MAX_BYTES // (4 * width))
    weights, hidden = np.ones((min(max(rows), most), width), np.float32), np.ones(width, np.float32)
    times: list[list[float]] = [[] for _ in rows]
    for _ in range(_TRIALS):
        for count, found in zip(rows, times, strict=True):
            part = weights[:count]
            started = time.perf_counter()
            part @ hidden
            found.append((time.perf_counter() - started) * count / len(part))
    return [round(1000 * min(found), 3) for found in times]


def fertility_figures(vocabulary: Vocabulary, trimmed: Tokenizer, held_out: Iterable[str]) -> dict[str, Any]:
    """Return tokens per word and characters per token of both tokenizers, on unseen domain texts and on others."""
    groups = {"held_out": held_out, "general": ENGLISH, "other_languages": OTHER_LANGUAGES}
    return {name: _fertility(vocabulary, trimmed, texts) for name, texts in groups.items()}


def _fertility(vocabulary: Vocabulary, trimmed: Tokenizer, texts: Iterable[str]) -> dict[str, Any]:
    sums = {"before": Fertility(), "after": Fertility()}
    count = same = 0
    for batch in batches(texts):
        old = vocabulary.tokenizer.encode_batch_fast(batch, add_special_tokens=False)
        new = trimmed.encode_batch_fast(batch, add_special_tokens=False)
        for text, theirs, ours in zip(batch, old, new, strict=True):
            sums["before"].add(text, len(theirs.ids))
            sums["after"].add(text, len(ours.ids))
            count += 1
            same += len(theirs.ids) == len(ours.ids)
    before, after = sums["before"], sums["after"]
    growth = round(after.tokens / before.tokens - 1, 6) if before.tokens else None
    return {"texts": count, "texts_of_same_length": same, "growth": growth} | {
        name: fertility.told() for name, fertility in sums.items()
    }


def _embedding_share(folder: Path, embeddings: Embeddings, parameters: int) -> float:
    tensors = {name: tensor for path in weight_files(folder) for name, tensor in tensors_of(path).items()}
    rows = sum(math.prod(tensors[name].shape) for name in embeddings.tensors)
    return round(rows / parameters, 4)
