"""The table `[train.reward]` of `vivace.toml`."""

from typing import Annotated

from pydantic import Field

from vivace.config.intent import EncoderSettings
from vivace.config.table import Count


class RewardSettings(EncoderSettings):
    """A model that scores answers, learned from ratings and pairs (`preferences.jsonl`)."""

    num_train_epochs: Annotated[float, Field(gt=0)] = 3.0
    """Passes over the pairs and ratings, if nothing ends training earlier."""
    learning_rate: Annotated[float, Field(gt=0)] = 5e-5
    """Peak learning rate; it rises over `warmup_ratio` of the steps and falls linearly to 0."""
    per_device_train_batch_size: Count = 16
    """Pairs or ratings per step."""
    max_length: Count = 256
    """Longest conversation with its answer in tokens; the oldest turns are cut first."""
    max_length_bias: Annotated[float, Field(ge=0, le=0.5)] = 0.1
    """Preferences are reweighted when the longer answer is liked in more than this share above one half. 0.5: never."""
    min_raters: Count = 1
    """Leave preferences out for which fewer people are known to have rated."""
