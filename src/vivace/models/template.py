"""Chat templates: from a conversation to the text a model was trained to read."""

from collections.abc import Mapping, Sequence
from typing import Any

from vivace.errors import ModelError, RequestError
from vivace.models.sandbox import Guard, Refused, current, sandbox, weight

MAX_TEMPLATE_CHARS = 200_000
_HINT = "Take the template from the model's publisher, or mend chat_template.jinja."


class ChatTemplate:
    """A compiled chat template; `origin` names it in errors, `variables` are what it sees besides the messages."""

    def __init__(self, source: str, *, origin: str, variables: Mapping[str, str] | None = None) -> None:
        if len(source) > MAX_TEMPLATE_CHARS:
            raise ModelError(
                f"The chat template of {origin} has {len(source):,} characters, more than {MAX_TEMPLATE_CHARS:,}."
            )
        self.source = source
        self._origin = origin
        self._variables = dict(variables or {})
        try:
            self._template = sandbox().from_string(source)
        except Exception as error:  # whatever a hostile template makes the compiler do
            raise ModelError(
                f"The chat template of {origin} cannot be compiled: {_first_line(error)}.", _HINT
            ) from error

    def render(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool, tools: Sequence[Mapping[str, Any]]
    ) -> str:
        """Return the text of a conversation.

        Raises `RequestError` when the template refuses the messages, `ModelError` when it fails or does too much.
        """
        guard = Guard(weight([*messages, *tools], 1 << 40))
        token = current.set(guard)
        try:
            return self._template.render(
                **self._variables,
                messages=list(messages),
                tools=list(tools) or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
            )
        except Refused as error:
            raise RequestError(f"The model's chat template refuses these messages: {error}", "messages") from error
        except Exception as error:  # a template can raise anything
            raise ModelError(f"The chat template of {self._origin} fails: {_first_line(error)}.", _HINT) from error
        finally:
            current.reset(token)


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__).rstrip(".")[:300]
