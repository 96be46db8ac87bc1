"""The data stage against datasketch, semhash and presidio chained by hand, on synthetic dialogues with planted faults.

    python -m benchmarks.data --rows 200000 --blocks 4     both chains, interleaved, with the ratio's interval
    python -m benchmarks.data --rows 20000 --alone         what of the planted faults the data stage finds
    python -m benchmarks.data --rows 1000000 --alone       its memory on a million conversations

Needs `pip install datasketch semhash presidio-analyzer presidio-anonymizer` for the comparison.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from benchmarks.dialogues import EDITED_SHARE, Planted, write_dialogues
from vivace.stats import bootstrap_mean

STEPS = ["encoding", "whitespace", "turns", "personal", "exact_duplicates", "near_duplicates"]
SAMPLE_INTERVAL_S = 0.2


def main() -> None:
    """Run what was asked for and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--workers", type=int, default=None)
    parser.add_argument("--alone", action="store_true", help="leave the comparison out")
    parser.add_argument("--steps", default=",".join(STEPS), help="the steps of the data stage; default: all of it")
    parser.add_argument("--edited", type=float, default=EDITED_SHARE, help="share of a near-duplicate's words changed")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.child:
        _child(*chosen.child, chosen)
        return
    names = ["vivace"] if chosen.alone else ["vivace", "by hand"]
    blocks = 1 if chosen.alone else chosen.blocks
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        for block in range(blocks):
            path = Path(folder) / f"block{block}.jsonl"
            planted = write_dialogues(path, chosen.rows // blocks, seed=block, edited_share=chosen.edited)
            for name in names if block % 2 == 0 else reversed(names):
                results[name].append(_measure(name, path, planted, chosen))
            path.unlink()
    summary: dict[str, Any] = {name: _mean(found) for name, found in results.items()}
    if not chosen.alone:
        ratios = np.array([a["rows_per_s"] / b["rows_per_s"] for a, b in zip(*results.values(), strict=True)])
        interval = bootstrap_mean(ratios, level=0.95, resamples=2000, seed=0)
        summary["ratio rows/s"] = [round(float(ratios.mean()), 2), round(interval.low, 2), round(interval.high, 2)]
    print(json.dumps(summary, indent=2))


def _measure(name: str, path: Path, planted: Planted, chosen: argparse.Namespace) -> dict[str, Any]:
    """Run one chain in a process of its own; return its speed, the peak memory of it and its children, its recall."""
    out = Path(tempfile.mkdtemp())
    command = [sys.executable, "-m", "benchmarks.data", "--steps", chosen.steps, "--child", name, str(path)]
    if chosen.workers:
        command[3:3] = ["--workers", str(chosen.workers)]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True,
                               env={**os.environ, "BENCH_OUT": str(out)})  # fmt: skip
    peak = _Peak(process.pid)
    answer = process.communicate()[0]
    if process.returncode:
        raise SystemExit(f"{name} failed")
    seconds = json.loads(answer.splitlines()[-1])["seconds"]
    if name == "vivace":
        _collect(out)
    found = _recall(out, planted)
    shutil.rmtree(out)
    return {"rows_per_s": planted.rows / seconds, "peak_memory_mb": peak.stop() / 1e6, "seconds": seconds, **found}


class _Peak:
    """Samples the memory of a process and its children: shared pages counted once."""

    def __init__(self, pid: int) -> None:
        self._pid, self._peak_bytes, self._running = pid, 0, True
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()

    def _sample(self) -> None:
        while self._running:
            try:
                parent = psutil.Process(self._pid)
                sizes = [item.memory_full_info().pss for item in (parent, *parent.children(recursive=True))]
                self._peak_bytes = max(self._peak_bytes, sum(sizes))
            except psutil.Error:
                pass
            time.sleep(SAMPLE_INTERVAL_S)

    def stop(self) -> int:
        self._running = False
        self._thread.join()
        return self._peak_bytes


def _recall(out: Path, planted: Planted) -> dict[str, float]:
    """Return which share of each planted fault was found, and which share of the clean rows was lost."""
    kept: set[int] = set()
    texts: dict[int, str] = {}
    for row in _lines(out / "kept.jsonl"):
        kept.add(row["ticket"])
        if row["ticket"] in planted.personal:
            texts[row["ticket"]] = row["text"]
    lost = set(json.loads((out / "lost.json").read_text()))
    broken = set(json.loads((out / "broken.json").read_text()))
    pairs = [pair for pair in planted.near_duplicates if not broken & set(pair)]
    near = [not (one in kept and other in kept) for one, other in pairs]
    personal: dict[str, list[bool]] = {}
    for number, values in planted.personal.items():
        for kind, value in values:
            if number in texts:
                personal.setdefault(kind, []).append(value not in texts[number])
    faulty = {*planted.personal, *planted.broken, *(number for pair in planted.near_duplicates for number in pair)}
    clean = planted.rows - len(faulty)
    return {
        "near_duplicates_found": float(np.mean(near)) if near else 1.0,
        "broken_found": float(np.mean([number in broken for number in planted.broken])) if planted.broken else 1.0,
        **{f"{kind}_found": float(np.mean(found)) for kind, found in sorted(personal.items())},
        "clean_lost": len(lost - faulty) / clean,
        "clean_called_broken": len(broken - set(planted.broken)) / clean,
    }


def _mean(found: list[dict[str, Any]]) -> dict[str, float]:
    return {key: round(float(np.mean([item[key] for item in found])), 4) for key in found[0]}


def _child(name: str, path: str, chosen: argparse.Namespace) -> None:
    out = Path(os.environ["BENCH_OUT"])
    started = time.perf_counter()
    finish = _vivace(Path(path), out, chosen) if name == "vivace" else _by_hand(Path(path), out)
    print(json.dumps({"seconds": time.perf_counter() - started}))
    if finish:
        finish()


def _vivace(path: Path, out: Path, chosen: argparse.Namespace) -> None:
    from vivace.config.data import DataSettings
    from vivace.data import prepare
    from vivace.domain import SilentProgress, Workspace

    given: dict[str, Any] = {"conversations": [str(path)], "workers": chosen.workers}
    if chosen.steps != "default":
        # The same threshold as in the other chain.
        given |= {"steps": chosen.steps.split(","), "label": {"fields": []}, "near_duplicate_threshold": 0.8}
    for folder in ("out", "scratch"):
        (out / folder).mkdir()
    settings = DataSettings.model_validate(given)
    prepare(settings, path.parent, Workspace(out / "out", out / "scratch", SilentProgress()))


def _collect(out: Path) -> None:
    """Bring what the data stage wrote into the form of the other chain."""
    lost: list[int] = []
    with open(out / "kept.jsonl", "w") as kept:
        for name in ("examples", "dropped"):
            for line in _lines(out / "out" / f"{name}.jsonl"):
                row = line.get("row", line)
                ticket = row["metadata"]["ticket"]
                # Rows beyond the largest test set wanted are not lost: they are kept for another one.
                if name == "dropped" and not line["reason"].startswith("set aside"):
                    lost.append(ticket)
                    continue
                text = "\n".join(item["content"] for item in row["messages"])
                kept.write(json.dumps({"ticket": ticket, "text": text}) + "\n")
    (out / "lost.json").write_text(json.dumps(lost))
    (out / "broken.json").write_text(json.dumps([row["line"] for row in _lines(out / "out" / "rejects.jsonl")]))


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        yield from map(json.loads, file)


def _by_hand(path: Path, out: Path) -> Callable[[], None]:
    """The chain a team writes: json, ftfy, presidio on a blank pipeline, datasketch, then semhash."""
    import ftfy
    from datasketch import MinHash, MinHashLSH
    from semhash import SemHash

    analyze, anonymize = _presidio()
    broken: list[int] = []
    rows: list[tuple[int, list[str]]] = []
    for number, line in enumerate(path.read_text().split("\n")[:-1], start=1):
        try:
            turns = [ftfy.fix_text(message["content"]) for message in json.loads(line)["messages"]]
            rows.append((number, [anonymize(text, analyze(text)) for text in turns]))
        except (ValueError, KeyError, TypeError):
            broken.append(number)
    index = MinHashLSH(threshold=0.8, num_perm=128)
    first: list[tuple[int, str]] = []
    lost: list[int] = []
    for number, turns in rows:
        words = " ".join(turns).lower().split()
        sketch = MinHash(num_perm=128)
        sketch.update_batch([" ".join(words[at : at + 3]).encode() for at in range(max(1, len(words) - 2))])
        if index.query(sketch):
            lost.append(number)
            continue
        index.insert(number, sketch)
        first.append((number, "\n".join(turns)))
    found = SemHash.from_records([{"id": n, "text": t} for n, t in first], columns=["text"], model=_WordVectors())
    kept = [(row["id"], row["text"]) for row in found.self_deduplicate(threshold=0.95).selected]
    names = {number for number, _text in kept}
    lost += [number for number, _text in first if number not in names]

    def finish() -> None:
        with open(out / "kept.jsonl", "w") as file:
            file.writelines(json.dumps({"ticket": number, "text": text}) + "\n" for number, text in kept)
        (out / "lost.json").write_text(json.dumps(lost))
        (out / "broken.json").write_text(json.dumps(broken))

    return finish


def _presidio() -> Any:
    import spacy
    from presidio_analyzer import AnalyzerEngine, RecognizerRegistry
    from presidio_analyzer.nlp_engine import SpacyNlpEngine
    from presidio_analyzer.predefined_recognizers import (
        CreditCardRecognizer,
        EmailRecognizer,
        IbanRecognizer,
        PhoneRecognizer,
    )
    from presidio_anonymizer import AnonymizerEngine

    class Blank(SpacyNlpEngine):
        """A pipeline that only splits words, so that nothing is downloaded."""

        def __init__(self) -> None:
            super().__init__(models=[{"lang_code": "en", "model_name": "blank"}])
            self.nlp = {"en": spacy.blank("en")}

    recognizers = [EmailRecognizer(), CreditCardRecognizer(), IbanRecognizer(), PhoneRecognizer()]
    engine = AnalyzerEngine(
        registry=RecognizerRegistry(recognizers=recognizers), nlp_engine=Blank(), supported_languages=["en"]
    )
    anonymizer = AnonymizerEngine()
    return (
        lambda text: engine.analyze(text, language="en", score_threshold=0.4),
        lambda text, found: anonymizer.anonymize(text, found).text,
    )


class _WordVectors:
    """A static encoder as fast as one can be: the mean of a fixed random vector for each word."""

    def __init__(self, dimensions: int = 256) -> None:
        self._vectors = np.random.default_rng(0).standard_normal((1 << 16, dimensions)).astype(np.float32)

    def encode(self, texts: list[str], **_options: Any) -> np.ndarray:
        import zlib

        rows = [[zlib.crc32(word.encode()) & 0xFFFF for word in text.lower().split()] or [0] for text in texts]
        return np.stack([self._vectors[row].mean(axis=0) for row in rows])


if __name__ == "__main__":
    main()
