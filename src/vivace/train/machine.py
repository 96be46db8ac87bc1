"""What this machine trains on: device, arithmetic, memory."""

import os
import resource
import sys
from pathlib import Path
from typing import Any, Literal

import psutil

from vivace.errors import ConfigError, ResourceError

LAYER_HIDDEN, LAYER_INNER = 14, 6
"""Floats kept per token and trained layer for the backward pass, in units of the hidden and the inner width, measured
on Llama-like models; layers below the lowest trained one keep nothing."""
GIVEN_GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")
"""The GPUs this process was given, before it took the first one of them."""


def device() -> Literal["cuda", "cpu"]:
    """Return where training runs; of several GPUs the first is taken."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def arithmetic(wanted: str, on: str) -> str:
    """Return the type's name for `dtype`: with auto, bfloat16 only where the hardware multiplies it fast."""
    fast = _cuda_has_bfloat16() if on == "cuda" else _cpu_has_bfloat16()
    if wanted == "auto":
        return "bfloat16" if fast else "float32"
    if wanted == "bfloat16" and on == "cuda" and not fast:
        raise ConfigError("This GPU cannot compute in bfloat16.", 'Set dtype = "float32" or "auto" in [train].')
    return wanted


def _cuda_has_bfloat16() -> bool:
    import torch

    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def _cpu_has_bfloat16() -> bool:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return False
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return "avx512_bf16" in flags or "amx_bf16" in flags


def memory_needed(model: Any, batch: tuple[int, int], depth: float) -> int:
    """Return the bytes a step needs at its peak on top of what the process holds now.

    `batch` is rows and tokens a row, padding included; `depth` is the share of layers the gradient passes through.
    """
    config = model.config.get_text_config()
    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    layers = max(1, round(depth * config.num_hidden_layers))
    trained = sum(int(p.numel()) for p in model.parameters() if p.requires_grad)
    rows, length = batch
    kept = 4 * rows * length * layers * (LAYER_HIDDEN * hidden + LAYER_INNER * inner)
    one_layer = 4 * rows * length * (4 * hidden + 4 * inner)
    logits = 3 * 4 * max(1 << 23, 16 * int(config.vocab_size))
    return int(12 * trained + kept + one_layer + logits)


def check_memory(need: int, on: str, batch: tuple[int, int], parameters: int) -> None:
    """Raise `ResourceError` before the start when a step would not fit."""
    free = memory_free(on)
    if need > free:
        rows, length = batch
        raise ResourceError(
            f"Training {parameters:,} parameters with batches of {rows} x {length} tokens needs about "
            f"{need / 1e9:,.1f} GB more; {free / 1e9:,.1f} GB are free.",
            "Lower per_device_train_batch_size, max_length or lora_layers_fraction in [train].",
        )


def memory_free(on: str) -> int:
    """Return the bytes that training may take."""
    if on == "cuda":
        import torch

        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def peak_memory_bytes(on: str) -> int:
    """Return the most memory taken so far: the GPU's, else this process's."""
    if on == "cuda":
        import torch

        return int(torch.cuda.max_memory_allocated())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(peak if sys.platform == "darwin" else 1024 * peak)
