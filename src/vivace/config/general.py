"""The table `[evaluate.general]` of `vivace.toml`."""

from vivace.config.table import Count, Fraction, Table


class GeneralSettings(Table):
    """What a model can besides its domain, before and after tuning."""

    tasks: list[str] = []
    """Tasks of lm-evaluation-harness to run besides the questions that come with Vivace: YAML files or folders."""
    max_examples: Count | None = None
    """At most so many rows of each task. Empty: all."""
    max_forgetting: Fraction | None = None
    """Refuse a candidate that is shown to lose more than this share in one of them. Empty: it is only told."""
