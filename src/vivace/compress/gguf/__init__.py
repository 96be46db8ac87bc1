"""Export to GGUF: what llama.cpp and everything built on it reads."""

from vivace.compress.gguf.exporting import KINDS, export

__all__ = ["KINDS", "export"]
