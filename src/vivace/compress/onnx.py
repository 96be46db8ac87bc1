"""Export to ONNX with onnxruntime-genai's model builder: what the onnxruntime engine reads."""

import tempfile
import time
from pathlib import Path

from vivace.compress.child import run_module
from vivace.compress.facts import size_facts
from vivace.compress.folder import furnish, read_config, whole_folder
from vivace.compress.support import check_exportable
from vivace.domain import Model, Progress
from vivace.models import check_data_only, fits, size_bytes
from vivace.store.files import guard_disk

# Weights in blocks of 32; accuracy level 4 multiplies in int8.
_OPTIONS = ("int4_block_size=32", "int4_accuracy_level=4", "hf_token=false")


def export(model: Model, kind: str, out: Path, progress: Progress) -> Model:
    """Write `model` as ONNX with int4 or int8 weights, symmetric in blocks of 32, into `out`.

    With int8 the token embeddings stay fp32: the builder has no 8-bit lookup.
    """
    config = read_config(model.path)
    check_exportable(model, config)
    check_data_only(model.path)
    fits(model)
    guard_disk(out, 2 * size_bytes(model.path))
    weights = kind.removeprefix("onnx-")
    started = time.monotonic()
    with whole_folder(out) as aside:
        _run(model, weights, aside, int(config.get("num_hidden_layers", 0)), progress)
        furnish(aside, model.path, config)
    exported = Model(model.name, out.absolute(), "onnx", weights, license=model.license)
    facts = size_facts(model, exported)
    progress.say(
        f"{kind}: {facts['size_bytes'] / 1e6:,.0f} MB, {facts.get('bits_per_weight', 0):.1f} bits per weight, "
        f"{time.monotonic() - started:.0f} s."
    )
    return exported


def _run(model: Model, weights: str, aside: Path, layers: int, progress: Progress) -> None:
    # The builder deletes its cache folder when it is done.
    with (
        tempfile.TemporaryDirectory(dir=aside.parent, prefix=f"{aside.name}.cache") as cache,
        progress.task(f"Exporting to ONNX {weights}", total=2 * layers or None) as bar,
    ):

        def on_line(line: str) -> None:
            # Reading the layers is about half of the work, the other half is quantizing and saving them.
            if line.startswith("Reading layer "):
                bar.advance()
            elif line.startswith("Saving ONNX model"):
                bar.note("quantizing and saving")

        run_module(
            "onnxruntime_genai.models.builder",
            [
                *("-m", model.name, "-i", str(model.path), "-o", str(aside), "-p", weights, "-e", "cpu"),
                *("-c", str(Path(cache) / "builder"), "--extra_options", *_OPTIONS),
            ],
            what=f"Exporting {model.name} to ONNX {weights}",
            on_line=on_line,
        )
        bar.advance(layers)
