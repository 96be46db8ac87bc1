"""Engines that are somebody else's servers, asked over HTTP in OpenAI's or Anthropic's protocol."""

from vivace.engines.remote.engine import RemoteEngine, open_remote
from vivace.engines.remote.folder import provider_candidate, read_provider, save_provider

__all__ = [
    "RemoteEngine",
    "open_remote",
    "provider_candidate",
    "read_provider",
    "save_provider",
]
