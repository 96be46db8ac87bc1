"""Logits from transformers, OpenVINO and ONNX, in one shape."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


def torch_logits(folder: Path, prompts: Sequence[Sequence[int]]) -> list[Floats]:
    """Return transformers' logits [tokens, vocabulary] for each prompt."""
    import torch

    from vivace.models import load_causal_lm

    model = load_causal_lm(folder)
    with torch.no_grad():
        return [model(torch.tensor([list(ids)])).logits[0].numpy() for ids in prompts]


class OpenVinoModel:
    """An exported graph, compiled with float32 arithmetic and caches."""

    def __init__(self, folder_or_graph: Any) -> None:
        import openvino as ov

        source = folder_or_graph / "openvino_model.xml" if isinstance(folder_or_graph, Path) else folder_or_graph
        exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
        self.request = ov.Core().compile_model(source, "CPU", exact).create_infer_request()

    def start(self) -> None:
        """Forget everything."""
        self.request.reset_state()

    def step(self, ids: Any, mask: Any = None, positions: Any = None, beam: Any = None) -> Floats:
        """Feed tokens [batch, new] and return logits [batch, new, vocabulary]."""
        ids = np.asarray(ids, np.int64)
        mask = np.ones_like(ids) if mask is None else np.asarray(mask, np.int64)
        if positions is None:
            positions = np.clip(mask.cumsum(1) - 1, 0, None)[:, -ids.shape[1] :]
        beam = np.arange(ids.shape[0]) if beam is None else beam
        inputs = {
            "input_ids": ids,
            "attention_mask": mask,
            "position_ids": positions,
            "beam_idx": np.asarray(beam, np.int32),
        }
        self.request.infer(inputs)
        return self.request.get_tensor("logits").data.copy()

    def whole(self, ids: Sequence[int]) -> Floats:
        """Return the logits [tokens, vocabulary] of one prompt read at once."""
        self.start()
        return self.step([list(ids)])[0]


def log_softmax(logits: Floats) -> Floats:
    """Return natural log-probabilities along the last axis."""
    shifted = logits - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def token_logprobs(logits: Floats, ids: Sequence[int]) -> Floats:
    """Return the log-probability of each token of `ids` after the first, given those before it."""
    return log_softmax(logits[:-1])[np.arange(len(ids) - 1), np.asarray(ids[1:])]
