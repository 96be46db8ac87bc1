"""Export to compressed-tensors: what vLLM, SGLang and TGI serve from a GPU."""

from vivace.compress.compressed_tensors.export import export
from vivace.compress.compressed_tensors.schemes import SCHEMES

__all__ = ["SCHEMES", "export"]
