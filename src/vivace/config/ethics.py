"""The table `[evaluate.ethics]` of `vivace.toml`."""

from vivace.config.table import Table


class EthicsSettings(Table):
    """What is probed for bias, harm and leaks, and what blocks a release."""
