"""Put placeholders in the place of personal data, the same one for the same value all through a conversation."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from vivace.config.data import DataSettings
from vivace.data.privacy.contact import find_emails, find_ip_addresses, find_url_tokens
from vivace.data.privacy.fields import fields_of
from vivace.data.privacy.order import find_order_numbers
from vivace.data.privacy.payment import find_cards, find_ibans
from vivace.data.privacy.person import Names
from vivace.data.privacy.phone import MIN_DIGITS, find_known, find_phones
from vivace.data.privacy.spans import NOTHING_KNOWN, Finder, Known, Span, digits_in
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
LEAST_DIGITS = 4  # of a number that is found again
_NO_NAMES = Names()
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

    def may_hold(self, text: str) -> bool:
        """Tell whether a text can hold personal data other than names, by the cheapest tests."""
        return (
            digits_in(text) > 0
            or "@" in text
            or "://" in text
            or ("." in text and "www." in text.lower())
            or "eyJ" in text
            or "order_number" in self.kinds
        )

    def find(
        self, text: str, before: str = "", known: Known = NOTHING_KNOWN, names: Names = _NO_NAMES
    ) -> list[tuple[str, Span]]:
        """Return kind and place of all personal data in the order it stands.

        `before` is the turn before this one, `known` the values found in other turns, `names` the people of the
        conversation.
        """
        if not names and not self.may_hold(text):
            return []
        taken: list[tuple[str, Span]] = []
        # Placeholders of an earlier redaction are left alone.
        blocked = [(match.start(), match.end()) for match in _PLACEHOLDER.finditer(text)] if "[" in text else []
        for kind, spans in self._all(text, before, known, names):
            for span in spans:
                if not any(span.start < end and start < span.end for start, end in blocked):
                    blocked.append((span.start, span.end))
                    if kind in self.kinds and not self._is_public(kind, span.value):
                        taken.append((kind, span))
        return sorted(taken, key=lambda item: item[1].start)

    def _is_public(self, kind: str, value: str) -> bool:
        return (kind, value) in self._public or (kind == "email" and value.endswith(self._public_domains))

    def text(self, text: str) -> str:
        """Return a text with placeholders, as a conversation of its own."""
        return self.conversation().example(Example("", (Message("user", text),))).messages[0].content

    def _all(self, text: str, before: str, known: Known, names: Names) -> Iterator[tuple[str, Iterable[Span]]]:
        digits = digits_in(text)
        for kind, (finder, least_digits) in _FINDERS.items():
            if digits >= least_digits:
                yield kind, finder(text)
        # Order numbers are no telephone numbers, whether they are redacted or not.
        if digits >= MIN_DIGITS or "order_number" in self.kinds:
            yield "order_number", self._order_numbers(text)
        if "order_number" in self.kinds:
            yield "order_number", find_order_numbers(text, before, known.orders)
        if digits >= MIN_DIGITS:
            yield "phone", find_phones(text, before)
            yield "phone", find_known(text, known.phones)
        yield "person", names.find(text, before)

    def _order_numbers(self, text: str) -> Iterator[Span]:
        for match in self._order_number.finditer(text):
            if match[0]:
                yield Span(match.start(), match.end(), match[0].casefold())


class Conversation:
    """The placeholders given out in one conversation; `counts` says how many values were replaced, by kind."""

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._numbers: dict[str, dict[str, int]] = {}
        self._last: Counter[str] = Counter()
        self._known = Known()
        self._names = Names()
        self.counts: Counter[str] = Counter()

    def example(self, example: Example) -> Example:
        """Return the example with personal data replaced in turns, rejected turns, tool calls and metadata."""
        turns = (*example.messages, *example.rejected)
        self._reserve(message.content for message in turns)
        if "person" in self._redactor.kinds:
            self._learn_names(example)
        found = self._learn_numbers(example)
        messages = self._turns(example.messages, found)
        rejected = self._turns(example.rejected, found[len(messages) :])
        metadata = self.value(example.metadata)
        if (messages, rejected, metadata) == (example.messages, example.rejected, example.metadata):
            return example
        return msgspec.structs.replace(example, messages=messages, rejected=rejected, metadata=metadata)

    def text(self, text: str, before: str = "") -> str:
        """Return a text with placeholders.

        What stood beside a number and hid it from the patterns may be a placeholder now, so rounds go on until nothing
        is found.
        """
        while found := self._redactor.find(text, before, self._known, self._names):
            text = self._replace(text, found)
        return text

    def _turns(self, messages: tuple[Message, ...], may_hold: list[bool]) -> tuple[Message, ...]:
        """Return messages with placeholders; those that surely hold nothing stay."""
        redacted = []
        before = ""
        for message, holds in zip(messages, may_hold, strict=False):
            if message.role == "tool":
                content = self._data(message.content)
            else:
                content = self.text(message.content, before) if holds else message.content
            before = message.content or before
            if message.name or message.tool_calls or content != message.content:
                message = msgspec.structs.replace(
                    message,
                    content=content,
                    name=None if message.name is None else self.text(message.name),
                    tool_calls=tuple(self._call(call) for call in message.tool_calls),
                )
            redacted.append(message)
        return tuple(redacted)

    def _replace(self, text: str, found: list[tuple[str, Span]]) -> str:
        parts: list[str] = []
        place = 0
        for kind, span in found:
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
        if not self._names and "\\" not in text and not self._redactor.may_hold(text):
            return text
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

    def _learn_numbers(self, example: Example) -> list[bool]:
        """Remember the telephone and order numbers that their surroundings tell, to find them where nothing tells.

        Return for each turn whether it may hold personal data.
        """
        turns: list[Message] = []
        found: list[bool] = []
        for side in (example.messages, example.rejected):
            before = ""
            for message in side:
                found.append(self._learn_from(message.content, before))
                turns.append(message)
                before = message.content or before
        for key, text in fields_of(example, lambda text: digits_in(text) >= LEAST_DIGITS):
            self._learn_from(text, key.replace("_", " "))
        if not self._names and not self._known.phones and not self._known.orders:
            return found
        return [
            finds or bool(self._names) or digits_in(message.content) >= LEAST_DIGITS
            for message, finds in zip(turns, found, strict=True)
        ]

    def _learn_from(self, text: str, before: str) -> bool:
        finds = self._redactor.find(text, before)
        self._known.phones.update(span.value for kind, span in finds if kind == "phone")
        self._known.orders.update(span.value for kind, span in finds if kind == "order_number")
        return bool(finds)

    def _learn_names(self, example: Example) -> None:
        self._names.learn(example.messages)
        self._names.learn(example.rejected)
        for key, text in fields_of(example, lambda text: "ame" in text.lower()):
            self._names.add_value(key, text)

    def _reserve(self, texts: Iterable[str]) -> None:
        for text in texts:
            for match in _PLACEHOLDER.finditer(text) if "[" in text else ():
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
    names = Names()
    if "person" in redactor.kinds:
        names.learn([Message("user", text)])
    for _kind, span in redactor.find(text, names=names):
        parts += [text[place : span.start], re.sub(r"[^\W_]", "•", text[span.start : span.end])]
        place = span.end
    return re.sub(r"\d{7,}", lambda match: "•" * len(match[0]), "".join([*parts, text[place:]]))
