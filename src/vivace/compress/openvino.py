"""Export to OpenVINO: what the openvino engine reads."""

import json
import time
from pathlib import Path

from vivace.compress.child import run_module
from vivace.compress.facts import size_facts
from vivace.compress.folder import furnish, read_config, whole_folder
from vivace.compress.support import check_exportable
from vivace.domain import Model, Progress
from vivace.errors import ModelError
from vivace.models import check_data_only, fits, size_bytes
from vivace.store.files import guard_disk

# Share of each phase in the time of an export, measured with SmolLM2-135M: int8 on two cores takes 17 s.
_SHARES = {"load": 0.45, "convert": 0.35, "compress": 0.15, "save": 0.05}
# NNCF otherwise compiles one small graph per weight; plain numpy is 3.5x faster and gives the same integers.
_ENVIRONMENT = {"NNCF_DISABLE_OPTIMIZED_COMPRESSION": "1"}


def export(model: Model, kind: str, out: Path, progress: Progress) -> Model:
    """Write `model` as a stateful OpenVINO model with int8, int4 or fp16 weights into `out`.

    int8 is per output channel and asymmetric; int4 is asymmetric in groups of 32 for the 70 % of the weights that
    bear it best, int8 for the others. Neither looks at data.
    """
    check_exportable(model, read_config(model.path))
    check_data_only(model.path)
    fits(model)
    guard_disk(out, size_bytes(model.path))
    weights = kind.removeprefix("openvino-")
    started = time.monotonic()
    with whole_folder(out) as aside:
        peak_bytes = _run(model, weights, aside, progress)
        furnish(aside, model.path, read_config(model.path))
    exported = Model(model.name, out.absolute(), "openvino", weights, license=model.license)
    facts = size_facts(model, exported)
    progress.say(
        f"{kind}: {facts['size_bytes'] / 1e6:,.0f} MB, {facts.get('bits_per_weight', 0):.1f} bits per weight, "
        f"{time.monotonic() - started:.0f} s, {peak_bytes / 1e6:,.0f} MB of memory at the most."
    )
    return exported


def _run(model: Model, weights: str, aside: Path, progress: Progress) -> int:
    """Export in a process of its own and return the most memory it used."""
    peak_bytes = 0
    with progress.task(f"Exporting to OpenVINO {weights}", total=1.0) as bar:

        def on_line(line: str) -> None:
            nonlocal peak_bytes
            report = json.loads(line)
            if "error" in report:
                raise ModelError(report["error"], report["hint"])
            peak_bytes = report["peak_bytes"]
            bar.advance(_SHARES[report["done"]])
            bar.note(f"{report['done']} {report['seconds']:.0f} s")

        run_module(
            "vivace.compress.openvino_graph",
            [str(model.path), str(aside), weights],
            what=f"Exporting {model.name} to OpenVINO {weights}",
            on_line=on_line,
            environment=_ENVIRONMENT,
        )
    return peak_bytes
