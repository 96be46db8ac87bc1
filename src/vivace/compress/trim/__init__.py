"""Keep the tokens that a domain needs, and prove that every text still comes back as it was."""

from vivace.compress.trim.trimming import trim_vocabulary

__all__ = ["trim_vocabulary"]
