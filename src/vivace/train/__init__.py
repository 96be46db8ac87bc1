"""Tune a base model on a domain's conversations."""

from vivace.train.tune import tune

__all__ = ["tune"]
