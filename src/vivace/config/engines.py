"""The table `[engines]` of `vivace.toml`."""

from vivace.config.table import Table


class EnginesSettings(Table):
    """How engines are opened."""

    tuned: bool = True
    """Measure and serve with the settings that `vivace engines tune` found best on this machine, where it did."""
