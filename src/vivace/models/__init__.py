"""Open, save and identify model folders, tokenizers and chat templates."""

from vivace.models.cache import cache_root, fingerprint
from vivace.models.catalog import entries
from vivace.models.identify import Description, check_data_only, describe, fits, identify, size_bytes
from vivace.models.resolve import is_cached, resolve
from vivace.models.tokenizer import ChatTokenizer, Decoder
from vivace.models.weights import copy_tokenizer, load_causal_lm, load_with_adapter, save_model

__all__ = [
    "ChatTokenizer",
    "Decoder",
    "Description",
    "cache_root",
    "check_data_only",
    "copy_tokenizer",
    "describe",
    "entries",
    "fingerprint",
    "fits",
    "identify",
    "is_cached",
    "load_causal_lm",
    "load_with_adapter",
    "resolve",
    "save_model",
    "size_bytes",
]
