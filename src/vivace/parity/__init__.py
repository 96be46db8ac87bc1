"""Proof that the model that is served is the model that was trained: tokens, likelihoods and ends at every hop."""

from vivace.parity.conversations import awkward, choose
from vivace.parity.findings import Finding, ParityReport, Place, load_parity, reason, section, write_parity
from vivace.parity.proof import Hop, Proof

__all__ = [
    "Finding",
    "Hop",
    "ParityReport",
    "Place",
    "Proof",
    "awkward",
    "choose",
    "load_parity",
    "reason",
    "section",
    "write_parity",
]
