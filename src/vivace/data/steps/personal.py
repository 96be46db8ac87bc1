"""Replace personal data by placeholders such as [EMAIL_1]."""

from vivace.config.settings import DataSettings
from vivace.data.privacy.redaction import Redactor
from vivace.data.rows import Row, render
from vivace.data.trail import StepTrail


def clean(rows: list[Row], settings: DataSettings, trail: StepTrail) -> list[Row]:
    """Redact turns, tool calls and metadata; one value has one placeholder all through its conversation."""
    if not settings.redact:
        return rows
    redactor = Redactor(settings)
    kept: list[Row] = []
    for row in rows:
        conversation = redactor.conversation()
        example = conversation.example(row.example)
        if conversation.counts:
            trail.change(row, dict(conversation.counts), render(row.example.messages), render(example.messages))
            row = Row(example, row.group, row.held_out)
        kept.append(row)
    return kept
