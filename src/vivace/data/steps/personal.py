"""Replace personal data by placeholders such as [EMAIL_1]."""

from functools import partial

from vivace.config.data import DataSettings
from vivace.data.privacy.redaction import Redactor
from vivace.data.rows import Row, render
from vivace.data.steps import CleanRow, RowStep
from vivace.data.trail import StepTrail


def _open(settings: DataSettings) -> CleanRow:
    return partial(clean, redactor=Redactor(settings) if settings.redact else None)


def clean(row: Row, trail: StepTrail, *, redactor: Redactor | None) -> Row:
    """Redact turns, tool calls and metadata; one value has one placeholder all through its conversation."""
    if redactor is None:
        return row
    conversation = redactor.conversation()
    example = conversation.example(row.example)
    if not conversation.counts:
        return row
    trail.change(row, dict(conversation.counts), render(row.example.messages), render(example.messages))
    return Row(example, row.group, row.held_out)


STEP = RowStep(_open)
