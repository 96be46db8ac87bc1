"""Artifacts and the ledger on disk; `store.artifacts` is imported only where the ledger is needed."""

from vivace.store.rows import read_examples, write_examples

__all__ = ["read_examples", "write_examples"]
