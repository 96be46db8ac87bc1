"""An encoder as an OpenVINO graph: written with torch, run without it."""

import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vivace.errors import ModelError
from vivace.models.encoders.tokens import Encoded, EncoderTokenizer
from vivace.models.identify import check_data_only

GRAPH = Path("openvino") / "classifier.xml"
BATCH_SIZE = 32

Logits = NDArray[np.float32]


class EncoderGraph:
    """Logits of texts, on the CPU, several texts at once; call it from one thread at a time."""

    def __init__(self, folder: Path, max_length: int, threads: int | None = None) -> None:
        check_data_only(folder)
        path = folder / GRAPH
        if not path.is_file():
            raise ModelError(f"{folder} holds no {GRAPH.as_posix()}.", "Make it with `vivace train`.")
        import openvino

        self.tokenizer = EncoderTokenizer(folder, max_length)
        # Some CPUs would compute in bfloat16 otherwise, and thresholds would no longer mean what they were set for.
        options: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            self._compiled = openvino.Core().compile_model(str(path), "CPU", options)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise ModelError(f"{path} cannot be opened: {reason}.", "Train it again.") from error
        self._inputs = {name for port in self._compiled.inputs for name in port.get_names()}

    def logits(self, rows: Sequence[Encoded]) -> Logits:
        """Return the logits, shape (rows, labels); rows of like length share a batch."""
        width = int(self._compiled.output(0).get_partial_shape()[1].get_length())
        found = np.zeros((len(rows), width), np.float32)
        order = sorted(range(len(rows)), key=lambda place: len(rows[place].ids))
        for start in range(0, len(order), BATCH_SIZE):
            places = order[start : start + BATCH_SIZE]
            padded = self.tokenizer.pad([rows[place] for place in places])
            fed = {name: values for name, values in padded.items() if name in self._inputs}
            found[places] = self._compiled(fed)[0]
        return found


def write_graph(folder: Path) -> Path:
    """Write the graph of the sequence classifier in a Hugging Face folder beside its weights, in float32.

    Raises `ModelError` where OpenVINO cannot convert the architecture.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    # Plain attention: its graph holds for every length, whatever the example's.
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        folder,
        attn_implementation="eager",
        dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    model.train(False)
    tokenizer = EncoderTokenizer(folder, max_length=16)
    example = {
        name: torch.from_numpy(values) for name, values in tokenizer.pad(tokenizer.texts(["one two", "three"])).items()
    }
    path = folder / GRAPH
    path.parent.mkdir(exist_ok=True)
    with _without_reports(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import openvino

        try:
            converted = openvino.convert_model(model, example_input=example)
        except Exception as error:  # whatever tracing makes of an architecture
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ModelError(f"{model.config.model_type} cannot be converted to OpenVINO: {reason}.") from error
        openvino.save_model(converted, str(path), compress_to_fp16=False)
    return path


@contextmanager
def _without_reports() -> Iterator[None]:
    """Keep OpenVINO's converter from reporting its use to its maker."""
    name = "openvino_telemetry"
    before = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if before is None:
            del sys.modules[name]
        else:
            sys.modules[name] = before
