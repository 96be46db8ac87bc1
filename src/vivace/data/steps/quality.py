"""Drop conversations whose answer nobody should learn: empty, cut off, looping, evasive, toxic."""

from collections.abc import Callable
from functools import partial

from vivace.config.data import DataSettings
from vivace.data import answers
from vivace.data.rows import Row, is_answer
from vivace.data.steps import CleanRow, RowStep
from vivace.data.toxicity import toxicity
from vivace.data.trail import StepTrail
from vivace.domain import Example, Message

# The last answer is what the model is examined on; it alone may be cut off or say nothing.
_LAST: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("answer without a word", answers.wordless),
    ("answer cut off", answers.cut_off),
    ("gibberish answer", answers.gibberish),
)
_EVERY: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("answer speaks as a language model", answers.as_language_model),
    ("placeholder left in the answer", answers.placeholder),
    ("answer repeats itself endlessly", answers.loop),
)


def _open(settings: DataSettings) -> CleanRow:
    return partial(clean, settings=settings)


def clean(row: Row, trail: StepTrail, *, settings: DataSettings) -> Row | None:
    """Keep the row or drop it; only the agent's answers count, a customer may be angry and short.

    Rows rated as bad, which are there to be unlearned, and questions without an answer are dropped for their length
    only.
    """
    reason, detail = _too_long(row.example, settings.max_chars)
    if not reason and not row.is_query and row.example.rating != 0:
        reason, detail = _fault(row.example, settings.max_toxicity)
    if not reason:
        return row
    trail.drop(row, reason, detail)
    return None


def _too_long(example: Example, max_chars: int) -> tuple[str, str]:
    chars = sum(len(message.content) for message in example.messages)
    return ("longer than max_chars", f"{chars} > {max_chars}") if chars > max_chars else ("", "")


def _fault(example: Example, max_toxicity: float) -> tuple[str, str]:
    """Return why an example is not to be learned from, with the words that show it; empty if it is."""
    learned = [message.content for message in example.messages if is_answer(message)]
    if not learned or not learned[-1].strip():
        return "no answer", ""
    if echoed := _echo(example.messages):
        return "answer repeats the question", echoed
    for reason, check in _LAST:
        if detail := check(learned[-1]):
            return reason, detail
    for text in learned:
        for reason, check in _EVERY:
            if detail := check(text):
                return reason, detail
    return _toxic("\n".join(learned), max_toxicity) if max_toxicity < 1 else ("", "")


def _echo(messages: tuple[Message, ...]) -> str:
    if len(messages) < 2 or messages[-2].role != "user" or messages[-1].role != "assistant":
        return ""
    return answers.echo(messages[-2].content, messages[-1].content)


def _toxic(text: str, max_toxicity: float) -> tuple[str, str]:
    score, words = toxicity(text)
    return ("toxic answer", f"{score:.2f}: {', '.join(words)}") if score > max_toxicity else ("", "")


STEP = RowStep(_open)
