"""The tables `[[evaluate.graders]]` of `vivace.toml`."""

from vivace.config.table import Table


class GraderSettings(Table):
    """One grader, in the shape of OpenAI's."""
