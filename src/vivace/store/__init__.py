"""Artifacts and the ledger on disk."""

from vivace.store.artifacts import Outcome, Store, is_whole, stage_key
from vivace.store.rows import read_examples, write_examples

__all__ = ["Outcome", "Store", "is_whole", "read_examples", "stage_key", "write_examples"]
