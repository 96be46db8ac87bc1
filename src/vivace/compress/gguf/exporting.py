"""One export to GGUF, as the process that asks for it sees it."""

import json
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from vivace.compress.calibration import Calibration
from vivace.compress.child import run_module
from vivace.compress.facts import size_facts
from vivace.compress.folder import furnish, read_config, whole_folder
from vivace.compress.gguf.layout import check_layout
from vivace.compress.gguf.recipes import RECIPES, Recipe
from vivace.compress.gguf.vocabulary import read_vocabulary
from vivace.compress.support import check_exportable
from vivace.config.quantize import QuantizeSettings
from vivace.domain import Model, Progress, Task
from vivace.errors import ConfigError, ModelError
from vivace.models import check_data_only, fits, size_bytes
from vivace.models.gguf_file import read_header
from vivace.registry import nearest
from vivace.store.files import guard_disk

KINDS = tuple(RECIPES)
"""The kinds of export."""


def export(
    model: Model,
    kind: str,
    out: Path,
    progress: Progress,
    settings: QuantizeSettings | None = None,
    calibration: Calibration | None = None,
) -> Model:
    """Write `model` as a folder with one GGUF file, and the tokenizer and configuration as they were, into `out`.

    Kinds with fewer than eight bits weigh the columns of each matrix by what flows through them over `calibration`, if
    there is one; f16 and q8_0 look at nothing. Raises `ConfigError` for an unknown kind, `ModelError` with the reason
    for a model that llama.cpp would not read as it is.
    """
    if kind not in RECIPES:
        raise ConfigError(f"There is no export {kind!r}.", nearest(kind, list(RECIPES)))
    recipe = RECIPES[kind]
    config = read_config(model.path)
    check_exportable(model, config)
    check_data_only(model.path)
    check_layout(config, model.name)
    read_vocabulary(model.path, int(config.get("vocab_size") or 0))
    fits(model)
    guard_disk(out, size_bytes(model.path))
    rows = calibration if calibration is not None and recipe.calibrated else None
    started = time.monotonic()
    with whole_folder(out) as aside:
        done = _run(model, recipe, kind, aside, rows, progress)
        furnish(aside, model.path, config)
    file = next(out.glob("*.gguf"))
    exported = Model(model.name, out.absolute(), "gguf", read_header(file).weights, license=model.license)
    facts = size_facts(model, exported)
    bits = 8 * file.stat().st_size / facts["parameters"] if facts["parameters"] else 0.0
    looked = f", importance of {rows.tokens:,} tokens ({rows.source})" if rows is not None else ""
    progress.say(
        f"{kind}: {facts['size_bytes'] / 1e6:,.0f} MB, {bits:.1f} bits per weight ({done['shares']}){looked}, "
        f"{time.monotonic() - started:.0f} s, {done['peak_bytes'] / 1e6:,.0f} MB of memory at the most."
    )
    return exported


def _run(
    model: Model, recipe: Recipe, kind: str, aside: Path, calibration: Calibration | None, progress: Progress
) -> Mapping[str, Any]:
    """Export in a process of its own and return what it says at the end."""
    done: dict[str, Any] = {}
    with (
        tempfile.TemporaryDirectory(dir=aside.parent, prefix=f"{aside.name}.order") as scratch,
        progress.task(f"Exporting to GGUF {recipe.name}", total=1.0) as bar,
    ):
        order = Path(scratch) / "order.json"
        order.write_bytes(
            msgspec.json.encode(
                {
                    "source": str(model.path),
                    "out": str(aside / f"model-{recipe.name}.gguf"),
                    "name": model.name,
                    "license": model.license,
                    "kind": kind,
                    "calibration": calibration,
                }
            )
        )

        def on_line(line: str) -> None:
            _take(json.loads(line), bar, done)

        run_module("vivace.compress.gguf.file", [str(order)], what=f"Exporting {model.name} to GGUF", on_line=on_line)
    return done


def _take(report: Mapping[str, Any], bar: Task, done: dict[str, Any]) -> None:
    if "error" in report:
        raise ModelError(report["error"], report["hint"])
    if "share" in report:
        bar.advance(report["share"])
    if "note" in report:
        bar.note(report["note"])
    done.update({key: report[key] for key in ("shares", "peak_bytes") if key in report})
