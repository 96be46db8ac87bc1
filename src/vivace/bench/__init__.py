"""Is it fast: latency, throughput and memory of candidates, measured side by side under load."""

from vivace.bench.run import bench

__all__ = ["bench"]
