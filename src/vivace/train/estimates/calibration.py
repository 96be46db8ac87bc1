"""What this machine really does: its fastest multiplication, one layer of the model, the head, the optimizer."""

import copy
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

from msgspec import Struct

TRIED_OPERATIONS = {"cpu": 2e10, "cuda": 4e12}
"""One timed piece of work is at most so large: a fraction of a second."""
_LONGEST_S = 1.0
_UPDATED_WEIGHTS = 1 << 21
_LEARNED_TOKENS = 160


class Rates(Struct, frozen=True):
    """What was measured: operations per second at best and in a layer, and seconds per learned token and weight."""

    limit_flops_per_s: float
    layer_flops_per_s: float
    head_s_per_token: float
    update_s_per_weight: float


@lru_cache(maxsize=8)
def measure(folder: Path, rows: int, length: int, device: str, dtype: str, threads: int) -> Rates:
    """Time the model's own shapes for a moment, with random numbers: no weight of the model is loaded.

    A layer runs forward and backward on a batch of `rows` of `length` tokens, so that everything between the
    multiplications is in its time. torch's random state is left as it was.
    """
    import torch
    from transformers import AutoConfig

    del threads  # part of what the result is remembered for
    config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()
    on = torch.device(device)
    with torch.random.fork_rng(devices=[on] if device == "cuda" else []):
        limit = _limit(config, rows * length, on, dtype)
        layer = _layer(config, rows, length, on, dtype)
        return Rates(
            limit_flops_per_s=max(limit, layer or 0.0),
            layer_flops_per_s=layer or limit / 2,
            head_s_per_token=_head(config, on, dtype),
            update_s_per_weight=_update(on),
        )


def _limit(config: Any, tokens: int, on: Any, dtype: str) -> float:
    """Return the operations per second of a multiplication as wide as the model's feed-forward block."""
    import torch

    hidden = int(config.hidden_size)
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    kind = getattr(torch, dtype)
    most = TRIED_OPERATIONS[on.type] / (2 * hidden * inner)
    tokens = int(max(16, min(tokens, most)))
    left, right = torch.randn(tokens, hidden, device=on, dtype=kind), torch.randn(hidden, inner, device=on, dtype=kind)
    times = _times(lambda: left @ right, on, count=9)
    return 2 * tokens * hidden * inner / min(times)


def _layer(config: Any, rows: int, length: int, on: Any, dtype: str) -> float | None:
    """Return the operations per second of one layer, both ways; None for a family that cannot be cut to one."""
    import torch
    from transformers import AutoModel

    cut = copy.deepcopy(config)
    cut.num_hidden_layers, cut.vocab_size = 1, 64
    cut.pad_token_id = cut.bos_token_id = cut.eos_token_id = None
    if getattr(cut, "layer_types", None):
        cut.layer_types = cut.layer_types[:1]
    try:
        make: Any = AutoModel
        model = make.from_config(cut, attn_implementation="sdpa").to(on)
        model.requires_grad_(False)
        size = sum(int(p.numel()) for name, p in model.named_parameters() if p.dim() == 2 and "embed" not in name)
        most = TRIED_OPERATIONS[on.type] / (4 * max(1, size))
        rows = int(max(1, min(rows, most // max(1, length))))
        length = int(max(16, min(length, most // rows)))
        given = torch.randn(rows, length, int(cut.hidden_size), device=on, requires_grad=True)
        mixed = torch.autocast(on.type, dtype=torch.bfloat16) if dtype == "bfloat16" else nullcontext()

        def step() -> None:
            with mixed:
                model(inputs_embeds=given, use_cache=False).last_hidden_state.float().sum().backward()

        seconds = statistics.median(_times(step, on, count=3))
    except Exception:  # a family with a shape of its own: the multiplication alone has to do
        return None
    heads = int(cut.num_attention_heads)
    width = getattr(cut, "head_dim", None) or cut.hidden_size // heads
    return float((4 * size * rows * length + 12 * heads * width * rows * length * length) / seconds)


def _head(config: Any, on: Any, dtype: str) -> float:
    """Return the seconds that the loss of one learned token takes, its gradient included."""
    import torch

    from vivace.train.head_loss import head_loss

    hidden, count = int(config.hidden_size), int(config.vocab_size)
    most = TRIED_OPERATIONS[on.type] / (4 * hidden * count)
    tokens = int(max(4, min(_LEARNED_TOKENS, most)))
    kind = getattr(torch, dtype)
    weight = torch.randn(count, hidden, device=on, dtype=kind)
    given = torch.randn(1, tokens + 1, hidden, device=on, dtype=kind, requires_grad=True)
    labels = torch.arange(tokens + 1, device=on)[None] % count

    def step() -> None:
        loss: Any = head_loss(given, weight, labels)[0]
        loss.backward()

    return statistics.median(_times(step, on, count=3)) / tokens


def _update(on: Any) -> float:
    """Return the seconds that AdamW takes for one trained weight."""
    import torch

    weight = torch.zeros(_UPDATED_WEIGHTS, device=on, requires_grad=True)
    weight.grad = torch.ones_like(weight)
    optimizer = torch.optim.AdamW([weight], fused=True)
    return statistics.median(_times(optimizer.step, on, count=3)) / _UPDATED_WEIGHTS


def _times(work: Callable[[], Any], on: Any, *, count: int) -> list[float]:
    """Return how long the work took, at most `count` times after one that does not count."""
    work()
    times: list[float] = []
    while len(times) < count and sum(times) < _LONGEST_S:
        _wait(on)
        began = time.perf_counter()
        work()
        _wait(on)
        times.append(time.perf_counter() - began)
    return times


def _wait(on: Any) -> None:
    if on.type == "cuda":
        import torch

        torch.cuda.synchronize()
