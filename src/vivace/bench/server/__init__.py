"""A server of OpenAI's protocol under load, whoever wrote it and wherever it runs."""

from vivace.bench.server.client import Target, open_target
from vivace.bench.server.run import Asked, ServerFindings, bench_server, find_server_rate

__all__ = ["Asked", "ServerFindings", "Target", "bench_server", "find_server_rate", "open_target"]
