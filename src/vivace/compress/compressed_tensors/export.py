"""Write a Hugging Face folder with int8 or int4 weights that vLLM serves as it is."""

import json
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from vivace.compress.calibration import Calibration
from vivace.compress.child import run_module
from vivace.compress.compressed_tensors.schemes import SCHEMES, group_size, kernel_note
from vivace.compress.facts import size_facts
from vivace.compress.folder import furnish, read_config, whole_folder
from vivace.compress.support import check_exportable
from vivace.config.quantize import QuantizeSettings
from vivace.domain import Model, Progress
from vivace.errors import ModelError
from vivace.models import check_data_only, fits, size_bytes
from vivace.store.files import guard_disk, write_atomic

# The quantizer's log: nowhere but where complaints go, whatever the user's own environment says.
_ENVIRONMENT = {
    "LLM_COMPRESSOR_LOG_FILE": "",
    "LLM_COMPRESSOR_LOG_FILE_LEVEL": "",
    "LLM_COMPRESSOR_LOG_LEVEL": "WARNING",
}


def export(
    model: Model,
    kind: str,
    out: Path,
    progress: Progress,
    settings: QuantizeSettings | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """Write `model` with the weights of `kind`, a key of `SCHEMES`, into `out`; the output head keeps all its bits.

    The largest group that divides the model's sizes, up to `settings.group_size`, shares an int4 scale.

    Raises `ModelError` with the reason for a model that cannot be exported so, `ConfigError` for groups too small.
    """
    if find_spec("llmcompressor") is None:
        raise ModelError(f"{kind} needs the package llmcompressor.", "Install it with: pip install 'vivace[vllm]'")
    scheme = SCHEMES[kind]
    config = read_config(model.path)
    check_exportable(model, config)
    check_data_only(model.path)
    most = settings.group_size if settings is not None else None
    group = group_size(model.name, config, most) if scheme.weight_bits == 4 else None
    fits(model)
    guard_disk(out, size_bytes(model.path))
    started = time.monotonic()
    with whole_folder(out) as aside:
        peak_bytes = _run(model, kind, group, calibration, aside, progress)
        quantization = read_config(aside)["quantization_config"]
        public = portable(config)
        furnish(aside, model.path, public)
        _add_quantization(aside / "config.json", quantization)
    exported = Model(model.name, out.absolute(), "hf", scheme.name, license=model.license)
    facts = size_facts(model, exported)
    progress.say(
        f"{kind}: {facts['size_bytes'] / 1e6:,.0f} MB, {facts.get('bits_per_weight', 0):.1f} bits per weight, "
        f"{_looked_at(calibration)}, {time.monotonic() - started:.0f} s, "
        f"{peak_bytes / 1e6:,.0f} MB of memory at the most."
    )
    note = kernel_note(config) if group is not None else ""
    if note:
        progress.say(f"{kind}: {note}")
    return exported


def portable(config: dict[str, Any]) -> dict[str, Any]:
    """Return a configuration that older servers read too: transformers 4's words beside those of transformers 5."""
    dtype = stored_dtype(config)
    changed = config | {"dtype": dtype, "torch_dtype": dtype}
    rope = config.get("rope_parameters")
    if isinstance(rope, dict) and "rope_theta" in rope:
        changed["rope_theta"] = rope["rope_theta"]
        if rope.get("rope_type", "default") != "default":
            changed["rope_scaling"] = {key: value for key, value in rope.items() if key != "rope_theta"}
    return changed


def stored_dtype(config: dict[str, Any]) -> str:
    """Return the type of what is not quantized: the model's own, but bfloat16 for float32, which no GPU serves."""
    dtype = str(config.get("dtype") or config.get("torch_dtype") or "float32")
    return dtype if dtype in ("float16", "bfloat16") else "bfloat16"


def _add_quantization(path: Path, quantization: dict[str, Any]) -> None:
    config = json.loads(path.read_bytes()) | {"quantization_config": quantization}
    write_atomic(path, json.dumps(config, indent=2, sort_keys=True) + "\n")


def _looked_at(calibration: Calibration | None) -> str:
    if calibration is None:
        return "no texts looked at"
    return f"{len(calibration.rows)} texts of {calibration.source} looked at"


def _run(
    model: Model, kind: str, group: int | None, calibration: Calibration | None, aside: Path, progress: Progress
) -> int:
    """Quantize in a process of its own and return the most memory it used."""
    peak_bytes = 0
    # The libraries' working directory: what they may write there goes with it.
    with tempfile.TemporaryDirectory(prefix="vivace-") as scratch, progress.task(f"Exporting to {kind}", 1.0) as bar:
        job = Path(scratch) / "job.json"
        rows = calibration and calibration.rows
        facts = {"source": str(model.path), "out": str(aside), "kind": kind, "group_size": group, "rows": rows}
        write_atomic(job, json.dumps(facts | {"dtype": stored_dtype(read_config(model.path))}))

        def on_line(line: str) -> None:
            nonlocal peak_bytes
            report = json.loads(line)
            if "error" in report:
                raise ModelError(report["error"], report["hint"])
            peak_bytes = report["peak_bytes"]
            bar.advance(report["share"])
            bar.note(report["done"])

        run_module(
            "vivace.compress.compressed_tensors.quantize",
            [str(job)],
            what=f"Exporting {model.name} to {kind}",
            on_line=on_line,
            environment=_ENVIRONMENT,
        )
    return peak_bytes
