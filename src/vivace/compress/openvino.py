"""Export to OpenVINO: what the openvino engine reads."""

import json
import tempfile
import time
from pathlib import Path

from vivace.compress.calibration import Calibration
from vivace.compress.child import run_module
from vivace.compress.facts import size_facts
from vivace.compress.folder import furnish, read_config, whole_folder
from vivace.compress.quantize.weights import Plan
from vivace.compress.support import check_exportable
from vivace.config.quantize import QuantizeSettings
from vivace.domain import Model, Progress
from vivace.errors import ModelError
from vivace.models import check_data_only, fits, size_bytes
from vivace.store.files import guard_disk

# Share of each phase in the time of an export, measured with SmolLM2-135M: int8 on two cores takes 17 s.
_SHARES = {"load": 0.45, "convert": 0.35, "compress": 0.15, "save": 0.05}
# With conversations to look at, int4 takes minutes.
_CALIBRATED_SHARES = {"load": 0.05, "convert": 0.05, "compress": 0.88, "save": 0.02}
# NNCF otherwise compiles one small graph per weight; plain numpy is 3.5x faster and gives the same integers.
_ENVIRONMENT = {"NNCF_DISABLE_OPTIMIZED_COMPRESSION": "1"}


def export(
    model: Model,
    kind: str,
    out: Path,
    progress: Progress,
    settings: QuantizeSettings | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """Write `model` as a stateful OpenVINO model with int8, int4 or fp16 weights into `out`.

    int8 is per output channel and asymmetric; int4 is asymmetric in groups of 32 for the 70 % of the weights that
    bear it best, int8 for the others, or as `settings` say. Only int4 looks at `calibration`, if there is one.
    """
    check_exportable(model, read_config(model.path))
    check_data_only(model.path)
    fits(model)
    guard_disk(out, size_bytes(model.path))
    weights = kind.removeprefix("openvino-")
    started = time.monotonic()
    plan = _plan(settings, calibration) if weights == "int4" else Plan()
    with whole_folder(out) as aside:
        run = _run(model, weights, plan, aside, progress)
        furnish(aside, model.path, read_config(model.path))
    exported = Model(model.name, out.absolute(), "openvino", weights, license=model.license)
    facts = size_facts(model, exported)
    looked = ""
    if weights == "int4":
        looked = f"{run['int4_share']:.0%} of the weights in 4 bits"
        looked += (
            f", fitted to {calibration.tokens:,} tokens ({calibration.source}); " if plan.rows and calibration else "; "
        )
    progress.say(
        f"{kind}: {looked}{facts['size_bytes'] / 1e6:,.0f} MB, {facts.get('bits_per_weight', 0):.1f} bits per weight, "
        f"{time.monotonic() - started:.0f} s, {run['peak_bytes'] / 1e6:,.0f} MB of memory at the most."
    )
    return exported


def _plan(settings: QuantizeSettings | None, calibration: Calibration | None) -> Plan:
    rows = calibration.rows if calibration else ()
    if settings is None:
        return Plan(rows=rows)
    return Plan(settings.method, settings.ratio, settings.group_size, rows)


def _run(model: Model, weights: str, plan: Plan, aside: Path, progress: Progress) -> dict[str, float]:
    """Export in a process of its own and return the most memory it used, and what it tells of the weights."""
    shares = _CALIBRATED_SHARES if plan.rows else _SHARES
    told: dict[str, float] = {"peak_bytes": 0, "int4_share": 0.0}
    with (
        tempfile.TemporaryDirectory() as place,
        progress.task(f"Exporting to OpenVINO {weights}", total=1.0) as bar,
    ):
        file = Path(place) / "plan.json"
        file.write_bytes(plan.encode())
        inside = 0.0  # what of the phase that is going on has been shown

        def on_line(line: str) -> None:
            nonlocal inside
            report = json.loads(line)
            if "error" in report:
                raise ModelError(report["error"], report["hint"])
            if "step" in report:
                share = shares["compress"] * report["share"]
                bar.advance(max(0.0, share - inside))
                inside = max(inside, share)
                bar.note(report["step"])
                return
            told.update({name: report[name] for name in told.keys() & report.keys()})
            bar.advance(shares[report["done"]] - inside)
            inside = 0.0
            bar.note(f"{report['done']} {report['seconds']:.0f} s")

        run_module(
            "vivace.compress.openvino_graph",
            [str(model.path), str(aside), weights, str(file)],
            what=f"Exporting {model.name} to OpenVINO {weights}",
            on_line=on_line,
            environment=_ENVIRONMENT,
        )
    return told
