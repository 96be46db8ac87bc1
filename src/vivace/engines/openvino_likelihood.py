"""Log-probabilities of given answers from an OpenVINO model, exact to what its weights are, and its own choices.

The model is compiled a second time, with the vocabulary projection moved behind a gather: it is computed for the answer
tokens alone, which saves a fifth of the work on a small model with a large vocabulary, and most of the memory.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vivace.engines.backend import Likelihoods
from vivace.engines.frames import Score
from vivace.errors import ModelError

if TYPE_CHECKING:
    import openvino as ov

BATCH_TOKENS = 640  # padding included: enough for full-width matrix products, and no 100 MB of logits


class Scorer:
    """A compiled model that returns the log-probability of each answer token and whether it is the likeliest."""

    def __init__(self, folder: Path, threads: int) -> None:
        import openvino as ov

        core = ov.Core()
        model = _with_answer_logprobs(core.read_model(folder / "openvino_model.xml"))
        compiled = core.compile_model(
            model, "CPU", {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
        )
        self._infer: Any = compiled.create_infer_request()
        self._inputs = {port.any_name for port in compiled.inputs}

    def score(self, requests: Sequence[Score]) -> list[Likelihoods]:
        """Return the log-probability of each answer token and whether it is the likeliest, per request."""
        by_length = sorted(range(len(requests)), key=lambda index: _length(requests[index]))
        results = [Likelihoods(()) for _ in requests]
        while by_length:
            batch = [by_length.pop()]  # the longest that is left decides the width
            width = _length(requests[batch[0]])
            while by_length and (len(batch) + 1) * width <= BATCH_TOKENS:
                batch.append(by_length.pop())
            for index, logprobs in zip(batch, self._batch([requests[index] for index in batch]), strict=True):
                results[index] = logprobs
        return results

    def _batch(self, requests: Sequence[Score]) -> list[Likelihoods]:
        import numpy as np

        size, width = len(requests), _length(requests[0])
        input_ids = np.zeros((size, width), np.int64)
        attention_mask = np.zeros((size, width), np.int64)
        rows: list[int] = []
        targets: list[int] = []
        for line, request in enumerate(requests):
            ids = (*request.prompt_ids, *request.answer_ids)
            input_ids[line, : len(ids)] = ids
            attention_mask[line, : len(ids)] = 1
            # Token t is predicted at position t - 1.
            first = line * width + len(request.prompt_ids) - 1
            rows.extend(range(first, first + len(request.answer_ids)))
            targets.extend(request.answer_ids)
        feed = {
            "input_ids": input_ids,
            "attention_mask": attention_mask,
            "position_ids": np.broadcast_to(np.arange(width, dtype=np.int64), (size, width)).copy(),
            "beam_idx": np.arange(size, dtype=np.int32),
            "answer_rows": np.array(rows, np.int64),
            "answer_ids": np.array(targets, np.int64).reshape(-1, 1),
        }
        self._infer.reset_state()
        outputs = self._infer.infer({name: value for name, value in feed.items() if name in self._inputs})
        flat = outputs["answer_logprobs"][:, 0].astype(np.float64).tolist()
        greedy = outputs["answer_greedy"][:, 0].tolist()
        results, done = [], 0
        for request in requests:
            end = done + len(request.answer_ids)
            results.append(Likelihoods(flat[done:end], greedy[done:end]))
            done = end
        return results


def _with_answer_logprobs(model: "ov.Model") -> "ov.Model":
    """Gather the hidden states of `answer_rows` before the vocabulary projection and pick `answer_ids` after it."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as op

    projection = model.output("logits").get_node().input_value(0).get_node()
    if projection.get_type_name() != "MatMul":
        raise ModelError(
            f"Log-probabilities need a model that ends in a projection; this one ends in {projection.get_type_name()}.",
            "Export it again with `vivace compress`.",
        )
    rows = op.parameter([-1], np.int64, name="answer_rows")
    rows.output(0).get_tensor().set_names({"answer_rows"})
    targets = op.parameter([-1, 1], np.int64, name="answer_ids")
    targets.output(0).get_tensor().set_names({"answer_ids"})
    # (batch, tokens, width) -> (batch * tokens, width) -> (answer tokens, width)
    hidden = projection.input_value(0)
    width = hidden.get_partial_shape()[2].get_length()
    flat = op.reshape(hidden, op.constant(np.array([-1, width], np.int64)), False)
    projection.input(0).replace_source_output(op.gather(flat, rows, op.constant(0)).output(0))
    model.add_parameters([rows, targets])
    model.validate_nodes_and_infer_types()
    logits = projection.output(0)
    logprobs = op.result(op.gather_elements(op.log_softmax(logits, -1), targets, 1))
    logprobs.output(0).get_tensor().set_names({"answer_logprobs"})
    best = op.reduce_max(logits, op.constant(np.array([-1], np.int64)), True)
    greedy = op.result(op.greater_equal(op.gather_elements(logits, targets, 1), best))
    greedy.output(0).get_tensor().set_names({"answer_greedy"})
    return ov.Model([logprobs, greedy], model.get_sinks(), model.get_parameters())


def _length(request: Score) -> int:
    return len(request.prompt_ids) + len(request.answer_ids)
