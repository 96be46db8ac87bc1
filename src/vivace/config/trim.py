"""The table `[compress.trim]`: which tokens a model keeps."""

from typing import Annotated, Literal

from pydantic import Field

from vivace.config.table import Count, Table


class TrimSettings(Table):
    """A smaller vocabulary for the tuned model, before it is exported; every text still comes back as it was."""

    method: Literal["none", "domain"] = "none"
    """`domain` keeps the tokens that the training texts and documents use, and the most general others."""
    keep: Annotated[float, Field(gt=0)] = 0.25
    """Tokens that stay, if the domain does not need more: a share of the vocabulary up to 1, a number above."""
    min_count: Count = 1
    """The domain needs what its texts use so often. Above 1, texts with rarer tokens are cut into more pieces."""
    multiple: Count = 64
    """The number of tokens is rounded up to a multiple of this, by keeping more."""
