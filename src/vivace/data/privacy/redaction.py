"""Put placeholders in the place of personal data, the same one for the same value all through a conversation."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Set
from typing import Any

import msgspec

from vivace.config.settings import DataSettings
from vivace.data.privacy.contact import find_emails, find_ip_addresses, find_url_tokens
from vivace.data.privacy.payment import find_cards, find_ibans
from vivace.data.privacy.phone import MIN_DIGITS, find_known, find_phones
from vivace.data.privacy.spans import Finder, Span
from vivace.domain import Example, Message, ToolCall
from vivace.errors import ConfigError

# Where finds overlap, the kind that stands first wins. Beside each, the digits a text has at least that holds one.
_FINDERS: dict[str, tuple[Finder, int]] = {
    "url_token": (find_url_tokens, 0),
    "email": (find_emails, 0),
    "iban": (find_ibans, 2),
    "card": (find_cards, 13),
    "ip_address": (find_ip_addresses, 1),
}
_PLACEHOLDER = re.compile(r"\[([A-Z]+(?:_[A-Z]+)*)_(\d+)\]")


class Redactor:
    """Finds the kinds of personal data that the settings name."""

    def __init__(self, settings: DataSettings) -> None:
        self.kinds = frozenset(settings.redact)
        self._public_domains = tuple(entry.casefold() for entry in settings.public_contacts if entry.startswith("@"))
        self._public: frozenset[tuple[str, str]] = frozenset()
        try:
            self._order_number = re.compile(settings.order_number_pattern)
        except re.error as error:
            raise ConfigError(
                f"order_number_pattern {settings.order_number_pattern!r} is not a regular expression: {error}."
            ) from error
        # "phone" tells that plain digits are meant as a telephone number.
        named = (self.find(entry, "phone") for entry in settings.public_contacts)
        self._public = frozenset((kind, span.value) for found in named for kind, span in found)

    def conversation(self) -> "Conversation":
        """Return a redactor with no values known yet."""
        return Conversation(self)

    def find(self, text: str, before: str = "", known: Set[str] = frozenset()) -> list[tuple[str, Span]]:
        """Return kind and place of all personal data in the order it stands.

        `before` is the turn before this one, `known` the values of telephone numbers found in other turns.
        """
        taken: list[tuple[str, Span]] = []
        # Placeholders of an earlier redaction are left alone.
        blocked = [Span(match.start(), match.end(), "") for match in _PLACEHOLDER.finditer(text)]
        for kind, spans in self._all(text, before, known):
            for span in spans:
                if not any(span.start < other.end and other.start < span.end for other in blocked):
                    blocked.append(span)
                    if kind in self.kinds and not self._is_public(kind, span.value):
                        taken.append((kind, span))
        return sorted(taken, key=lambda item: item[1].start)

    def _is_public(self, kind: str, value: str) -> bool:
        return (kind, value) in self._public or (kind == "email" and value.endswith(self._public_domains))

    def text(self, text: str) -> str:
        """Return a text with placeholders, as a conversation of its own."""
        return self.conversation().text(text)

    def _all(self, text: str, before: str, known: Set[str]) -> Iterator[tuple[str, Iterable[Span]]]:
        digits = sum(map(text.count, "0123456789"))
        for kind, (finder, least_digits) in _FINDERS.items():
            if digits >= least_digits:
                yield kind, finder(text)
        # Order numbers are no telephone numbers, whether they are redacted or not.
        yield (
            "order_number",
            (
                Span(match.start(), match.end(), match[0].casefold())
                for match in self._order_number.finditer(text)
                if match[0]
            ),
        )
        if digits >= MIN_DIGITS:
            yield "phone", find_phones(text, before)
            yield "phone", find_known(text, known)


class Conversation:
    """The placeholders given out in one conversation; `counts` says how many values were replaced, by kind."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._numbers: dict[str, dict[str, int]] = {}
        self._last: Counter[str] = Counter()
        self._known_phones: set[str] = set()
        self.counts: Counter[str] = Counter()

    def example(self, example: Example) -> Example:
        """Return the example with personal data replaced in turns, tool calls and metadata."""
        self._reserve(message.content for message in example.messages)
        self._learn_phones(example.messages)
        messages: list[Message] = []
        before = ""
        for message in example.messages:
            messages.append(
                msgspec.structs.replace(
                    message,
                    content=self._data(message.content)
                    if message.role == "tool"
                    else self.text(message.content, before),
                    name=None if message.name is None else self.text(message.name),
                    tool_calls=tuple(self._call(call) for call in message.tool_calls),
                )
            )
            before = message.content or before
        return msgspec.structs.replace(example, messages=tuple(messages), metadata=self.value(example.metadata))

    def text(self, text: str, before: str = "") -> str:
        """Return a text with placeholders."""
        parts: list[str] = []
        place = 0
        for kind, span in self._redactor.find(text, before, self._known_phones):
            parts += [text[place : span.start], self._placeholder(kind, span.value)]
            place = span.end
        return "".join([*parts, text[place:]])

    def value(self, value: Any, name: str = "") -> Any:
        """Return a JSON value with placeholders in its texts and numbers; `name` is the key it stands under."""
        if isinstance(value, str):
            return self.text(value, name)
        if isinstance(value, dict):
            return {self.text(key): self.value(item, key.replace("_", " ")) for key, item in value.items()}
        if isinstance(value, list | tuple):
            return [self.value(item, name) for item in value]
        if isinstance(value, int) and not isinstance(value, bool):
            written = self.text(str(value), name)
            return value if written == str(value) else written
        return value

    def _data(self, text: str) -> str:
        """Return a text that may be JSON with placeholders, still JSON if it was."""
        try:
            data = json.loads(text)
        except (ValueError, RecursionError):
            return self.text(text)
        if not isinstance(data, dict | list):
            return self.text(text)
        redacted = self.value(data)
        return text if redacted == data else json.dumps(redacted, ensure_ascii=False)

    def _call(self, call: ToolCall) -> ToolCall:
        function = msgspec.structs.replace(call.function, arguments=self._data(call.function.arguments))
        return msgspec.structs.replace(call, function=function)

    def _learn_phones(self, messages: Iterable[Message]) -> None:
        """Remember the telephone numbers that their surroundings tell, to find them where nothing tells."""
        before = ""
        for message in messages:
            found = self._redactor.find(message.content, before)
            self._known_phones.update(span.value for kind, span in found if kind == "phone")
            before = message.content or before

    def _reserve(self, texts: Iterable[str]) -> None:
        for text in texts:
            for match in _PLACEHOLDER.finditer(text):
                kind = match[1].lower()
                self._last[kind] = max(self._last[kind], int(match[2]))

    def _placeholder(self, kind: str, value: str) -> str:
        known = self._numbers.setdefault(kind, {})
        if value not in known:
            self._last[kind] += 1
            known[value] = self._last[kind]
        self.counts[kind] += 1
        return f"[{kind.upper()}_{known[value]}]"


def with_contacts_of(settings: DataSettings, texts: Iterable[str]) -> DataSettings:
    """Return the settings with the e-mail addresses and telephone numbers of published texts as public contacts."""
    redactor = Redactor(settings)
    found = {
        text[span.start : span.end]
        for text in texts
        for kind, span in redactor.find(text)
        if kind in ("email", "phone")
    }
    return settings.model_copy(update={"public_contacts": [*settings.public_contacts, *sorted(found)]})


def veil(text: str, redactor: Redactor) -> str:
    """Return a text whose personal data and long numbers show their shape only, for samples of what was found."""
    parts: list[str] = []
    place = 0
    for _kind, span in redactor.find(text):
        parts += [text[place : span.start], re.sub(r"[^\W_]", "•", text[span.start : span.end])]
        place = span.end
    return re.sub(r"\d{7,}", lambda match: "•" * len(match[0]), "".join([*parts, text[place:]]))
