"""Change what the customer wrote, and leave the text alone that a generator learns to write."""

from collections.abc import Callable, Mapping

import msgspec

from vivace.data.rows import Row
from vivace.data.steps.language import detect
from vivace.data.trail import StepTrail
from vivace.errors import ConfigError
from vivace.text.transforms import Transform


def transform_customer(row: Row, trail: StepTrail, *, transform: Transform, change: str) -> Row:
    """Return the row with the customer's turns transformed; `change` names in the trail what was done to a turn."""
    changed = 0
    before = after = ""
    messages = []
    for message in row.example.messages:
        text = transform(message.content) if message.role == "user" else message.content
        # A turn that would be empty ("???") stays: an answer to nothing cannot be learned.
        if text != message.content and text.strip():
            if not changed:
                before, after = message.content, text
            changed += 1
            message = msgspec.structs.replace(message, content=text)
        messages.append(message)
    if not changed:
        return row
    trail.change(row, {change: changed}, before, after)
    return row.with_messages(tuple(messages))


def transforms_of(languages: list[str], step: str, make: Callable[[str], Transform]) -> dict[str, Transform]:
    """Return a transform for each language; raises `ConfigError` if there is none, or none is named."""
    if not languages:
        raise ConfigError(f"The step {step!r} needs to know the languages.", 'Write languages = ["en"] in [data].')
    return {code.lower(): make(code.lower()) for code in languages}


def transform_customer_by_language(
    row: Row, trail: StepTrail, *, transforms: Mapping[str, Transform], change: str
) -> Row:
    """Return the row with the customer's turns transformed as their language asks; in doubt they stay."""
    code = next(iter(transforms))
    if len(transforms) > 1:
        text = " ".join(message.content for message in row.example.messages if message.role == "user")
        code, _score = detect(text, frozenset(transforms))
    return transform_customer(row, trail, transform=transforms[code], change=change) if code in transforms else row
