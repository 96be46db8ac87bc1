"""Paraphrase: a model says in other words what the customer said."""

import re
from collections.abc import Sequence

from vivace.data.augment.acceptance import Refusal
from vivace.data.augment.rewriting import Proposals, Propose, Source
from vivace.data.augment.writer import Writer

MIN_WORDS = 4  # shorter turns ("yes please") are left as they are

INSTRUCTION = (
    "Rewrite this message of a customer in other words, as another customer would write it. Keep its meaning, its "
    "language, and every name, number and [PLACEHOLDER_1] as they are. Reply with the rewritten message only.\n\n"
)
_QUOTES = re.compile(r"\A[\"“”«»]+(?P<text>[^\"“”«»]*)[\"“”«»]+\Z", re.DOTALL)


def paraphrase(writer: Writer) -> Propose:
    """Return what asks the model for each of the customer's turns."""

    async def propose(sources: Sequence[Source], attempt: int) -> list[Proposals]:
        prompts = [
            (f"{source.example.id} {place}", INSTRUCTION + text)
            for source in sources
            for place, text in source.turns.items()
        ]
        written = iter(await writer.write(prompts, attempt))
        return [{place: unquoted(next(written), text) for place, text in source.turns.items()} for source in sources]

    return propose


def unquoted(written: str | Refusal, before: str) -> str | Refusal:
    """Return a text without the quotation marks that models put around what they were asked for."""
    if isinstance(written, str) and (match := _QUOTES.match(written)) and not _QUOTES.match(before):
        return match["text"].strip()
    return written
