"""Names of people, found wherever they are mentioned once somebody has been introduced, addressed or signed.

No list of names is behind it: whoever is only spoken about ("I sold it to Anna") is not found.
"""

import re
from collections.abc import Iterable, Iterator

from vivace.data.privacy.introductions import ALSO_WORDS, MIN_CHARS, TITLE, TOKEN, introductions, is_name
from vivace.data.privacy.spans import Span
from vivace.domain import Message

# The key under which a tool or a table keeps a person's name; "name" alone may be a hotel's.
_NAME_KEY = re.compile(
    r"(?:^|[ _.])(?:customer|patient|client|user|guest|first|last|full|given|family|contact|account ?holder|passenger"
    r"|agent|caller|employee|doctor|driver|renter)s?[ _]?name$",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")
_QUOTED_NAME = re.compile(rf"^[\"'\s]*(?:{TITLE} )?(?P<name>[^\W\d_]{{2,}}(?:[ '’-][^\W\d_]{{2,}}){{0,2}})[\"'\s]*$")


class Names:
    """The people of one conversation; the value of a person is the fullest name that was told."""

    def __init__(self) -> None:
        self._people: list[list[str]] = []
        self._mentions: re.Pattern[str] | None = None
        self._person_of: dict[str, list[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._people)

    def learn(self, messages: Iterable[Message]) -> None:
        """Learn who is introduced, addressed or signs in the turns."""
        before = ""
        for message in messages:
            if message.role in ("user", "assistant") and message.content:
                for told in introductions(message.content, before):
                    self.add(told.name)
                before = message.content

    def add(self, name: str) -> None:
        """Add a name; it is a known person's if they share it, or its first or last part."""
        tokens = TOKEN.findall(name)
        wanted = {token.casefold() for token in tokens}
        for person in self._people:
            has = {token.casefold() for token in person}
            if wanted <= has or has <= wanted:
                person += [token for token in tokens if token not in person]
                break
        else:
            person = list(tokens)
            self._people.append(person)
        for form in (name, *tokens):
            for written in {form, form.title() if form.islower() or form.isupper() else form}:
                if len(written) >= MIN_CHARS:
                    self._person_of.setdefault(written, person)
        self._mentions = None

    def add_value(self, key: str, value: str) -> None:
        """Add the value of a field whose key says that it is a person's name."""
        if _NAME_KEY.search(_CAMEL.sub(" ", key)) and (match := _QUOTED_NAME.match(value)) and is_name(match["name"]):
            self.add(match["name"])

    def find(self, text: str, before: str = "") -> Iterator[Span]:
        """Yield every mention of the people known, and those introduced in the text if they are."""
        if not self._people:
            return
        for told in introductions(text, before):
            if told.name in self._person_of:
                yield Span(told.start, told.end, self._value(told.name))
        if self._mentions is None:
            forms = sorted(self._person_of, key=len, reverse=True)
            self._mentions = re.compile(rf"(?<![\w@/.-])(?:{'|'.join(map(re.escape, forms))})(?![\w@/])")
        for match in self._mentions.finditer(text):
            if match[0] not in ALSO_WORDS or re.search(r"[a-z,] $", text[max(0, match.start() - 2) : match.start()]):
                yield Span(match.start(), match.end(), self._value(match[0]))

    def _value(self, name: str) -> str:
        return str(self._people.index(self._person_of[name]))
