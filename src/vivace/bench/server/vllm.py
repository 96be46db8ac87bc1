"""A run as `vllm bench serve --save-result --save-detailed` writes it, for tools that read that.

Names and meanings are those of https://github.com/vllm-project/vllm/blob/main/vllm/benchmarks/serve.py: times count
from when a request was really sent, an answer's end is its last token, `request_goodput` is in requests a second.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import accumulate
from typing import Any

import numpy as np

from vivace.bench.load import Sample
from vivace.bench.summary import answered, keeps

PERCENTILES = (50, 95, 99)


def vllm_result(
    samples: Sequence[Sample],
    seconds: float,
    *,
    model: str,
    service_level: str,
    rate: float | None,
    variation: float,
    concurrency: int | None,
    metadata: Mapping[str, str],
) -> dict[str, Any]:
    """Return the result as a dict in the order of vLLM's file; `variation` is that of the gaps between arrivals."""
    good = answered(samples)
    read = sum(sample.prompt_tokens for sample in good)
    written = sum(sample.completion_tokens for sample in good)
    result: dict[str, Any] = {
        "date": datetime.now(UTC).strftime("%Y%m%d-%H%M%S"),
        "endpoint_type": "openai-chat",
        "backend": "openai-chat",
        "label": None,
        "model_id": model,
        "tokenizer_id": model,
        "num_prompts": len(samples),
        **metadata,
        "request_rate": "inf" if rate is None else rate,
        "burstiness": 1 / variation**2 if variation else float("inf"),
        "max_concurrency": concurrency,
        "duration": seconds,
        "completed": len(good),
        "failed": len(samples) - len(good),
        "total_input_tokens": read,
        "total_output_tokens": written,
        "request_throughput": len(good) / seconds,
        "request_goodput": sum(keeps(sample, service_level) for sample in samples) / seconds,
        "output_throughput": written / seconds,
        "total_token_throughput": (read + written) / seconds,
        "input_lens": [sample.prompt_tokens for sample in samples],
        "output_lens": [sample.completion_tokens if sample.error is None else 0 for sample in samples],
        "ttfts": [_ttft_s(sample) if sample.error is None else 0.0 for sample in samples],
        "itls": [list(sample.gaps_s) if sample.error is None else [] for sample in samples],
        "start_times": [sample.sent_s for sample in samples],
        "generated_texts": [""] * len(samples),  # texts are never kept
        "errors": [sample.error or "" for sample in samples],
        "max_output_tokens_per_s": _peak_tokens(good),
        "max_concurrent_requests": peak_in_work(samples),
    }
    if result["burstiness"] == float("inf"):
        result["burstiness"] = "inf"
    for name, values_s in _measures(good).items():
        values_ms = np.array(values_s) * 1e3 if values_s else np.zeros(1)
        result |= {
            f"mean_{name}_ms": float(values_ms.mean()),
            f"median_{name}_ms": float(np.median(values_ms)),
            f"std_{name}_ms": float(values_ms.std()),
        }
        result |= {f"p{p}_{name}_ms": float(np.percentile(values_ms, p)) for p in PERCENTILES}
    return result


def peak_in_work(samples: Sequence[Sample]) -> int:
    """Return the most requests that were in work at one time."""
    changes = sorted([(sample.sent_s, 1) for sample in samples] + [(sample.finished_s, -1) for sample in samples])
    return max(accumulate(change for _time, change in changes), default=0)


def _measures(good: Sequence[Sample]) -> dict[str, list[float]]:
    return {
        "ttft": [_ttft_s(sample) for sample in good],
        "tpot": [sample.tpot_ms / 1e3 for sample in good if sample.tpot_ms is not None],
        "itl": [gap for sample in good for gap in sample.gaps_s],
        "e2el": [sample.finished_s - sample.sent_s for sample in good],
    }


def _ttft_s(sample: Sample) -> float:
    return (sample.finished_s if sample.first_token_s is None else sample.first_token_s) - sample.sent_s


def _peak_tokens(good: Sequence[Sample]) -> float:
    """Return the most tokens of any second; an answer's tokens are spread over the pieces it came in."""
    seconds: dict[int, float] = {}
    for sample in good:
        if sample.first_token_s is not None:
            times = list(accumulate((sample.first_token_s, *sample.gaps_s)))
            for time in times:
                seconds[int(time)] = seconds.get(int(time), 0.0) + sample.completion_tokens / len(times)
    return max(seconds.values(), default=0.0)
