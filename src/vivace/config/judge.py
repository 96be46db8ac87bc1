"""The table `[evaluate.judge]` of `vivace.toml`."""

from vivace.config.table import Table


class JudgeSettings(Table):
    """How answers are judged by a model."""
