"""New conversations from those there are, marked synthetic."""

from vivace.data.augment.acceptance import TextEmbedder
from vivace.data.augment.stage import augment

__all__ = ["TextEmbedder", "augment"]
