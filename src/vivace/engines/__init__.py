"""Things that generate, each in a process of its own, one file each."""

from vivace.engines.backend import ENGINES, default_engine
from vivace.engines.limits import engine_threads
from vivace.engines.process import Engine, ProcessEngine, open_engine
from vivace.engines.tokens import Tokenizer

__all__ = ["ENGINES", "Engine", "ProcessEngine", "Tokenizer", "default_engine", "engine_threads", "open_engine"]
