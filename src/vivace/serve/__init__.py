"""The HTTP API: OpenAI's shapes over the stack that was evaluated and released."""

from vivace.serve.app import create_app
from vivace.serve.keys import resolve_keys
from vivace.serve.run import run_server

__all__ = ["create_app", "resolve_keys", "run_server"]
