"""Does calibrating on the domain lose less than calibrating on general text, at the same four-bit size?

    python -m benchmarks.quantize PROJECT --model FOLDER --kind openvino-int4 --generic FILE

PROJECT is a folder with a `vivace.toml` whose data has been made (`vivace data`). FOLDER is a Hugging Face model, such
as the merged one in the project's store; without it the project's base is taken. It is exported three times as
`--kind`: without looking at anything, calibrated on texts of FILE, and on conversations of the train split. Both
calibrations have as many rows, each as long as its counterpart. Each is examined on the answers of test and validation
conversations, which nothing was calibrated on: loss per answer token above that of the unquantized model in
transformers, paired by conversation, with 95 % bootstrap intervals, size, seconds and memory.
"""

import argparse
import json
import re
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vivace.compress import onnx, openvino
from vivace.compress.calibration import Calibration, read_calibration, shuffled
from vivace.config.quantize import QuantizeSettings
from vivace.domain import Model, Progress, SilentProgress
from vivace.loop.project import open_project
from vivace.models import ChatTokenizer
from vivace.stats import Floats, mean_of_rows, paired_bootstrap_rows
from vivace.store import read_examples
from vivace.train.batches.rows import IGNORED, Row, encode_examples

EXPORTS = {"openvino-int4": openvino.export, "onnx-int4": onnx.export}


def main() -> None:
    """Export three times, measure and print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--model", type=Path, default=None, help="a Hugging Face folder")
    parser.add_argument("--kind", choices=list(EXPORTS), default="openvino-int4")
    parser.add_argument("--generic", type=Path, required=True, help="general text, paragraphs divided by empty lines")
    parser.add_argument("--method", default=QuantizeSettings().method)
    parser.add_argument("--ratio", type=float, default=QuantizeSettings().ratio)
    parser.add_argument("--examples", type=int, default=QuantizeSettings().examples)
    parser.add_argument("--held-out", type=int, default=60, help="conversations that are examined")
    parser.add_argument("--max-length", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    print(json.dumps(_measure(chosen), indent=2))


def _measure(chosen: argparse.Namespace) -> dict[str, Any]:
    settings = QuantizeSettings(method=chosen.method, ratio=chosen.ratio, examples=chosen.examples, seed=chosen.seed)
    folder, system, dataset = _material(chosen)
    domain = read_calibration(dataset, folder, settings, system, chosen.max_length, chosen.project)
    if domain is None:
        raise SystemExit("nothing to calibrate on")
    arms = {"data_free": None, "generic": _like(domain, folder, chosen.generic), "domain": domain}
    held = _held_out(dataset, folder, system, chosen)
    whole = _losses_of_transformers(folder, held)
    found, losses = {}, {}
    with tempfile.TemporaryDirectory() as place:
        for arm, calibration in arms.items():
            noted = _Noted()
            started = time.monotonic()
            model = Model("model", folder, "hf", "fp32")
            made = EXPORTS[chosen.kind](model, chosen.kind, Path(place) / arm, noted, settings, calibration)
            found[arm] = {"seconds": round(time.monotonic() - started), **noted.facts(), "bytes": _bytes(made.path)}
            losses[arm] = _losses(chosen.kind, made.path, held)
            found[arm]["lost"] = _change(losses[arm], whole)
    return {
        "command": {name: str(value) for name, value in vars(chosen).items()},
        "calibration": {"rows": len(domain.rows), "tokens": domain.tokens},
        "held_out": {"conversations": len(held), "tokens": sum(row.learned for row in held)},
        "loss": round(_mean(whole), 4),
        "arms": found,
        "domain_minus_generic": _change(losses["domain"], losses["generic"]),
        "generic_minus_data_free": _change(losses["generic"], losses["data_free"]),
        # Below 0: domain calibration loses less than half of what generic calibration loses.
        "domain_minus_half_of_generic": _change(
            losses["domain"] - whole * [1, 0], (losses["generic"] - whole) * [0.5, 0] + whole * [0, 1]
        ),
    }


def _material(chosen: argparse.Namespace) -> tuple[Path, str, Path]:
    """Return the model, the system prompt and the newest dataset of the project."""
    from vivace.loop.stages import base_model

    with open_project(chosen.project, SilentProgress(), lock=False) as project:
        folder = chosen.model or base_model(project).path
        datasets = sorted(project.store.root.glob("artifacts/dataset/*/files"), key=lambda path: path.stat().st_mtime)
        if not datasets:
            raise SystemExit(f"{chosen.project} has no dataset: run `vivace data` first")
        return folder, project.settings.project.system, datasets[-1]


def _like(domain: Calibration, folder: Path, file: Path) -> Calibration:
    """Return as many rows of general text, each as long as the domain's."""
    tokenizer = ChatTokenizer.open(folder)
    ids = [part for text in file.read_text("utf-8").split("\n\n") for part in tokenizer.encode(f"{text.strip()}\n\n")]
    if len(ids) < domain.tokens:
        raise SystemExit(f"{file} has {len(ids):,} tokens; {domain.tokens:,} are needed")
    rows, start = [], 0
    for row in domain.rows:
        rows.append(tuple(ids[start : start + len(row)]))
        start += len(row)
    return Calibration(tuple(rows), file.name)


def _held_out(dataset: Path, folder: Path, system: str, chosen: argparse.Namespace) -> Sequence[Row]:
    tokenizer, file = ChatTokenizer.open(folder), dataset / "examples.jsonl"
    examples = [
        example for split in ("test", "validation") for example in shuffled(read_examples(file, split), chosen.seed)
    ][: chosen.held_out]
    return encode_examples(tokenizer, examples, system, chosen.max_length, split="test").rows


def _losses_of_transformers(folder: Path, rows: Sequence[Row]) -> Floats:
    import torch

    from vivace.models import load_causal_lm

    model = load_causal_lm(folder)
    with torch.no_grad():
        return np.array([_loss(model(torch.tensor([row.ids])).logits[0].numpy(), row) for row in rows])


def _losses(kind: str, folder: Path, rows: Sequence[Row]) -> Floats:
    """Return (summed loss, answer tokens) of each conversation, (conversations, 2)."""
    return _losses_of_openvino(folder, rows) if kind.startswith("openvino") else _losses_of_onnx(folder, rows)


def _losses_of_openvino(folder: Path, rows: Sequence[Row]) -> Floats:
    import openvino as ov

    exact = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32", "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}
    request = ov.Core().compile_model(folder / "openvino_model.xml", "CPU", exact).create_infer_request()
    found = []
    for row in rows:
        ids = np.array([row.ids], np.int64)
        request.reset_state()
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "beam_idx": np.zeros(1, np.int32)}
        request.infer(feed | {"position_ids": np.arange(ids.shape[1])[None]})
        found.append(_loss(request.get_tensor("logits").data[0], row))
    return np.array(found)


def _losses_of_onnx(folder: Path, rows: Sequence[Row]) -> Floats:
    import onnxruntime_genai as genai

    model = genai.Model(str(folder))
    found = []
    for row in rows:
        settings = genai.GeneratorParams(model)
        settings.set_search_options(max_length=len(row.ids) + 1)
        generator = genai.Generator(model, settings)
        logits = []
        for number in row.ids:  # one by one: only the last logits of a portion are given
            generator.append_tokens(np.array([[number]], np.int32))
            logits.append(generator.get_output("logits")[0, -1].copy())
        found.append(_loss(np.stack(logits), row))
    return np.array(found)


def _loss(logits: Any, row: Row) -> tuple[float, float]:
    labels = np.array(row.labels[1:])
    learned = np.flatnonzero(labels != IGNORED)
    chosen = logits[learned].astype(np.float64)
    chosen -= chosen.max(-1, keepdims=True)
    normalizer = np.log(np.exp(chosen).sum(-1))
    return float((normalizer - chosen[np.arange(len(learned)), labels[learned]]).sum()), float(len(learned))


def _mean(losses: Floats) -> float:
    return float(losses[:, 0].sum() / losses[:, 1].sum())


def _change(losses: Floats, others: Floats) -> dict[str, Any]:
    interval = paired_bootstrap_rows(losses, others, mean_of_rows)
    change = _mean(losses) - _mean(others)
    return {"nats_a_token": round(change, 4), "interval": [round(interval.low, 4), round(interval.high, 4)]}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


class _Noted(SilentProgress, Progress):
    """Keeps what an export says of its memory and of the share of its weights in four bits."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        """Keep a line."""
        self.said.append(text)

    def facts(self) -> dict[str, Any]:
        """Return the figures in the last line."""
        memory = re.search(r"([\d,]+) MB of memory", self.said[-1])
        share = re.search(r"(\d+)% of the weights", self.said[-1])
        return {
            "memory_mb": int(memory[1].replace(",", "")) if memory else None,
            "int4_share": int(share[1]) / 100 if share else None,
        }


if __name__ == "__main__":
    main()
