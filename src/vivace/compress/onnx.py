"""Export to ONNX with onnxruntime-genai's model builder: what the onnxruntime engine reads."""

import json
import tempfile
import time
from pathlib import Path

from vivace.compress.calibration import Calibration
from vivace.compress.child import run_module
from vivace.compress.facts import size_facts
from vivace.compress.folder import furnish, read_config, whole_folder
from vivace.compress.support import check_exportable
from vivace.config.quantize import QuantizeSettings
from vivace.domain import Model, Progress
from vivace.errors import ModelError
from vivace.models import check_data_only, fits, size_bytes
from vivace.store.files import guard_disk

# Weights in blocks of 32; accuracy level 4 multiplies in int8.
_OPTIONS = ("int4_block_size=32", "int4_accuracy_level=4", "hf_token=false")


def export(
    model: Model,
    kind: str,
    out: Path,
    progress: Progress,
    settings: QuantizeSettings | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """Write `model` as ONNX with int4 or int8 weights, symmetric in blocks of 32, into `out`.

    The builder rounds to nearest and looks at nothing. So int4, given a calibration, first writes the matrices inside
    the layers on the grid that the builder will find (GPTQ); embeddings and output layer are rounded to nearest.
    With int8 the token embeddings stay fp32: the builder has no 8-bit lookup.
    """
    config = read_config(model.path)
    check_exportable(model, config)
    check_data_only(model.path)
    fits(model)
    weights = kind.removeprefix("onnx-")
    fitted = calibration is not None and weights == "int4" and (settings is None or settings.method != "none")
    guard_disk(out, (3 if fitted else 2) * size_bytes(model.path))
    layers = int(config.get("num_hidden_layers", 0))
    started = time.monotonic()
    with whole_folder(out) as aside, tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as place:
        source, looked = model.path, ""
        if fitted and calibration is not None:
            source = Path(place) / "fitted"
            _fit(model, source, calibration, layers, Path(place), progress)
            looked = f"fitted to {calibration.tokens:,} tokens ({calibration.source}); "
        _run(model, source, weights, aside, layers, progress)
        furnish(aside, model.path, config)
    exported = Model(model.name, out.absolute(), "onnx", weights, license=model.license)
    facts = size_facts(model, exported)
    progress.say(
        f"{kind}: {looked}{facts['size_bytes'] / 1e6:,.0f} MB, {facts.get('bits_per_weight', 0):.1f} bits per weight, "
        f"{time.monotonic() - started:.0f} s."
    )
    return exported


def _fit(model: Model, out: Path, calibration: Calibration, layers: int, place: Path, progress: Progress) -> None:
    """Write a model whose matrices the builder will hold without loss, in a process of its own."""
    rows = place / "rows.json"
    rows.write_text(json.dumps(calibration.rows))
    with progress.task(f"Fitting to {calibration.source}", total=layers or None) as bar:

        def on_line(line: str) -> None:
            report = json.loads(line)
            if "error" in report:
                raise ModelError(report["error"], report["hint"])
            bar.advance()

        run_module(
            "vivace.compress.quantize.layerwise",
            [str(model.path), str(out), str(rows)],
            what=f"Fitting {model.name} to {calibration.source}",
            on_line=on_line,
        )


def _run(model: Model, source: Path, weights: str, aside: Path, layers: int, progress: Progress) -> None:
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
                *("-m", model.name, "-i", str(source), "-o", str(aside), "-p", weights, "-e", "cpu"),
                *("-c", str(Path(cache) / "builder"), "--extra_options", *_OPTIONS),
            ],
            what=f"Exporting {model.name} to ONNX {weights}",
            on_line=on_line,
        )
        bar.advance(layers)
