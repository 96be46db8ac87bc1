"""What this machine could do at best, measured once, and how near to it a candidate comes.

Decoding reads every weight once a step, whoever many answers share it, so memory bandwidth bounds it; reading a prompt
computes two operations a weight and token, so arithmetic does. Williams, Waterman, Patterson 2009, doi:10.1145/1498765
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec
import numpy as np
import psutil
from msgspec import Struct

from vivace.bench.foreign import ForeignLoad
from vivace.bench.load import Sample
from vivace.domain import Model
from vivace.errors import ResourceError, VivaceError
from vivace.models import cache_root, describe
from vivace.store.files import write_atomic

ARRAY_BYTES = 96 << 20
"""Larger than the caches of most processors; three of them are read and written."""
SLICE = 1 << 15
MATRIX = 1024
REPEATS = 4
QUIET_BELOW = 0.15
TIMEOUT_S = 120.0
_BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


class Roofline(Struct, frozen=True):
    """The best of several repeats; `gflop_per_s` are fp32 matrix products, with one thread and with all."""

    processor: str
    threads: int
    read_gb_per_s: float
    triad_gb_per_s: float
    gflop_per_s: float
    gflop_per_s_one_thread: float
    foreign_cpu_fraction: float
    measured_at: str

    @property
    def sentence(self) -> str:
        """The figures in words."""
        return (
            f"{self.read_gb_per_s:.1f} GB/s reading, {self.triad_gb_per_s:.1f} GB/s triad, {self.gflop_per_s:,.0f} "
            f"GFLOP/s in fp32 with {self.threads} threads ({self.gflop_per_s_one_thread:,.0f} with one)"
        )


class Nearness(Struct, frozen=True):
    """How near to the roofline one candidate came: shares of bandwidth and of fp32 arithmetic.

    `bound` is what a decoding step is nearer to at this many answers at once.
    """

    candidate: str
    at_once: int
    weight_bytes: int
    parameters: int
    decode_gb_per_s: float
    decode_fraction: float
    decode_compute_fraction: float
    prefill_gflop_per_s: float
    prefill_fraction: float
    bound: str


def roofline(cache: Path | None = None, *, measure_now: bool = False) -> Roofline:
    """Return what is remembered of this machine, measured now where nothing is.

    What was measured while others used the processor is measured anew once they do not. Raises `ResourceError` where
    there is too little memory for it.
    """
    path = cache_root(cache) / "machines" / f"{_slug()}.json"
    known = _remembered(path)
    if known is not None and not measure_now:
        noisy = known.foreign_cpu_fraction > QUIET_BELOW
        if not noisy or psutil.cpu_percent(interval=0.3) / 100 > QUIET_BELOW:
            return known
    found = measure()
    if known is not None and known.foreign_cpu_fraction < found.foreign_cpu_fraction and not measure_now:
        return known
    write_atomic(path, msgspec.json.format(msgspec.json.encode(found), indent=1))
    return found


def measure() -> Roofline:
    """Measure for a few seconds, in processes of their own, as the libraries fix their threads when they start."""
    if psutil.virtual_memory().available < 5 * ARRAY_BYTES:
        raise ResourceError("Too little memory is free to measure its bandwidth.", "Close other programs first.")
    threads = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    foreign = ForeignLoad()
    one, all_ = _child(1), _child(threads)
    return Roofline(
        processor=processor(),
        threads=threads,
        read_gb_per_s=max(one[0], all_[0]),
        triad_gb_per_s=max(one[1], all_[1]),
        gflop_per_s=max(one[2], all_[2]),
        gflop_per_s_one_thread=one[2],
        foreign_cpu_fraction=foreign.fraction(),
        measured_at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def nearness(
    candidate: str,
    roof: Roofline,
    *,
    weight_bytes: int,
    parameters: int,
    samples: Sequence[Sample],
    at_once: int,
) -> Nearness:
    """Return the shares of the roofline from requests of which `at_once` were in work, and shared decoding steps.

    Reading prompts is judged by the request whose first token came fastest for its prompt: a time to the first token
    holds waiting, too.
    """
    tpot_ms = float(np.median([sample.tpot_ms for sample in samples if sample.tpot_ms] or [0.0]))
    read = [
        (sample.prompt_tokens - sample.cached_tokens) / sample.ttft_ms * 1e3 for sample in samples if sample.ttft_ms
    ]
    steps_per_s = 1e3 / tpot_ms if tpot_ms else 0.0
    decode = steps_per_s * weight_bytes / 1e9
    compute = steps_per_s * at_once * 2 * parameters / 1e9 / roof.gflop_per_s
    prefill = max(read, default=0.0) * 2 * parameters / 1e9
    return Nearness(
        candidate=candidate,
        at_once=at_once,
        weight_bytes=weight_bytes,
        parameters=parameters,
        decode_gb_per_s=decode,
        decode_fraction=decode / roof.read_gb_per_s,
        decode_compute_fraction=compute,
        prefill_gflop_per_s=prefill,
        prefill_fraction=prefill / roof.gflop_per_s,
        bound="memory bandwidth" if decode / roof.read_gb_per_s >= compute else "arithmetic",
    )


def weights_of(model: Model) -> tuple[int, int] | None:
    """Return the bytes and the number of the weights that every token needs; None where the files do not say.

    A table of input embeddings of its own is left out: a token needs one row of it.
    """
    folder = model.path if model.path.is_dir() else model.path.parent
    config = _config(folder if (folder / "config.json").is_file() or model.base is None else model.base)
    parameters = _parameters(config)
    if parameters is None:
        try:
            parameters = describe(model.path).parameters
        except VivaceError:
            parameters = None
    files = [model.path] if model.path.is_file() else [path for path in folder.iterdir() if _holds_weights(path)]
    size = sum(path.stat().st_size for path in files)
    if not parameters or not size:
        return None
    if not config.get("tie_word_embeddings", True) and (table := _size(config, "vocab_size", "hidden_size")):
        size = round(size * parameters / (parameters + table))
    return size, parameters


def _holds_weights(path: Path) -> bool:
    name = path.name
    if name.startswith(("openvino_tokenizer", "openvino_detokenizer")):
        return False
    return name.endswith((".safetensors", ".gguf", ".onnx", ".onnx.data", ".onnx_data", "openvino_model.bin"))


def _config(folder: Path) -> Mapping[str, Any]:
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _parameters(config: Mapping[str, Any]) -> int | None:
    """Return the weights that a token needs in a decoder with gated layers, such as Llama's and Qwen's."""
    hidden, heads = _size(config, "hidden_size"), _size(config, "num_attention_heads")
    head = _size(config, "head_dim") or (hidden // heads if heads else 0)
    keys = (_size(config, "num_key_value_heads") or heads) * head
    layer = 2 * hidden * heads * head + 2 * hidden * keys + 3 * hidden * _size(config, "intermediate_size")
    whole = _size(config, "num_hidden_layers") * layer + _size(config, "vocab_size", "hidden_size")
    return whole if whole and heads and _size(config, "intermediate_size") else None


def _size(config: Mapping[str, Any], *names: str) -> int:
    """Return the product of sizes in a configuration, 0 where one is missing."""
    total = 1
    for name in names:
        value = config.get(name)
        total *= value if isinstance(value, int) and not isinstance(value, bool) else 0
    return total


def processor() -> str:
    """Return the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith(("model name", "Model"))]
    return named[0] if named and named[0] else platform.processor() or platform.machine()


def _slug() -> str:
    told = f"{platform.node()}-{processor()}-{psutil.cpu_count()}"
    return "".join(char if char.isalnum() else "-" for char in told).lower()[:120]


def _remembered(path: Path) -> Roofline | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Roofline)
    except (OSError, msgspec.DecodeError):
        return None


def _child(threads: int) -> tuple[float, float, float]:
    environment = os.environ | dict.fromkeys(_BLAS_THREADS, str(threads))
    command = [sys.executable, "-m", "vivace.bench.roofline", str(threads)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=TIMEOUT_S, check=True)
        return msgspec.json.decode(done.stdout, type=tuple[float, float, float])
    except (subprocess.SubprocessError, msgspec.DecodeError):
        raise ResourceError("The machine's speed could not be measured.", "Is there enough free memory?") from None


def _figures(threads: int) -> tuple[float, float, float]:
    """Return GB/s reading, GB/s of a triad, and GFLOP/s."""
    count = ARRAY_BYTES // 4
    a, b, c = (np.full(count, value, dtype=np.float32) for value in (0.0, 1.0, 2.0))
    step = -(-count // threads)
    parts = [slice(start, min(count, start + step)) for start in range(0, count, step)]

    def read(part: slice) -> None:
        np.dot(b[part], c[part])

    def triad(part: slice) -> None:
        # In pieces that stay in the cache between the two passes, so that memory sees three arrays, as in C.
        for start in range(part.start, part.stop, SLICE):
            piece = slice(start, min(part.stop, start + SLICE))
            np.multiply(c[piece], 3.0, out=a[piece])
            np.add(a[piece], b[piece], out=a[piece])

    left = np.full((MATRIX, MATRIX), 0.5, dtype=np.float32)
    with ThreadPoolExecutor(threads) as pool:
        read_s = _best(lambda: list(pool.map(read, parts)))
        triad_s = _best(lambda: list(pool.map(triad, parts)))
    return (
        2 * ARRAY_BYTES / read_s / 1e9,
        3 * ARRAY_BYTES / triad_s / 1e9,
        2 * MATRIX**3 / _best(lambda: left @ left) / 1e9,
    )


def _best(work: Callable[[], object]) -> float:
    times = []
    for _ in range(REPEATS + 1):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return min(times[1:])  # the first touches memory and starts threads


if __name__ == "__main__":
    sys.stdout.write(msgspec.json.encode(_figures(int(sys.argv[1]))).decode())
