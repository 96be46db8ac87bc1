"""How far a quantized model's next tokens are from the whole model's, text by text."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from msgspec import Struct

from vivace.domain import Interval
from vivace.errors import ModelError
from vivace.stats import Floats, mean_of_rows, paired_bootstrap_rows

_EXACT = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}


class Divergence(Struct, frozen=True):
    """Mean Kullback-Leibler divergence a token, in nats, with its 95 % interval over texts; `agree` is the share of
    positions whose most likely next token is the same."""

    mean: float
    interval: Interval
    agree: float


def divergence(whole: Path, made: Path, rows: Sequence[Sequence[int]]) -> Divergence:
    """Compare a Hugging Face folder with a quantized one (OpenVINO, or Hugging Face again) on texts of token ids.

    What rounding costs is hundredths of a nat; a quantizer with wrong scales costs whole nats, also on texts whose loss
    happens to fall.
    """
    before, after = _opened(whole), _opened(made)
    sums, same = [], []
    for ids in rows:
        expected, found = _log_softmax(before(ids)), _log_softmax(after(ids))
        if expected.shape != found.shape:
            raise ModelError(f"{made.name} gives {found.shape[-1]} logits a token, {whole.name} {expected.shape[-1]}.")
        sums.append((float((np.exp(expected) * (expected - found)).sum()), float(len(ids))))
        same.append(float((expected.argmax(-1) == found.argmax(-1)).sum()))
    table = np.array(sums)
    interval = paired_bootstrap_rows(table, table * [0.0, 1.0], mean_of_rows)
    tokens = float(table[:, 1].sum())
    return Divergence(float(table[:, 0].sum() / tokens), interval, sum(same) / tokens)


def _opened(folder: Path) -> Callable[[Sequence[int]], Floats]:
    """Return a function from token ids to logits [tokens, vocabulary]."""
    return _openvino(folder) if (folder / "openvino_model.xml").is_file() else _transformers(folder)


def _transformers(folder: Path) -> Callable[[Sequence[int]], Floats]:
    import torch

    from vivace.models import load_causal_lm

    model = load_causal_lm(folder)

    def logits(ids: Sequence[int]) -> Floats:
        with torch.no_grad():
            found: Floats = model(torch.tensor([list(ids)])).logits[0].double().numpy()
        return found

    return logits


def _openvino(folder: Path) -> Callable[[Sequence[int]], Floats]:
    import openvino as ov

    request: Any = ov.Core().compile_model(folder / "openvino_model.xml", "CPU", _EXACT).create_infer_request()

    def logits(ids: Sequence[int]) -> Floats:
        request.reset_state()
        request.infer(
            {
                "input_ids": np.array([ids], np.int64),
                "attention_mask": np.ones((1, len(ids)), np.int64),
                "position_ids": np.arange(len(ids), dtype=np.int64)[None],
                "beam_idx": np.zeros(1, np.int32),
            }
        )
        found: Floats = request.get_tensor("logits").data[0].astype(np.float64)
        return found

    return logits


def _log_softmax(logits: Floats) -> Floats:
    shifted = logits - logits.max(-1, keepdims=True)
    found: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found
