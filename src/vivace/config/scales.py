"""The table `[evaluate.scales]` of `vivace.toml`."""

from vivace.config.table import Table


class ScalesSettings(Table):
    """Which sizes of model are compared."""
