"""New conversations from a training row with its customer's turns in other words."""

import hashlib
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence

import msgspec
from msgspec import Struct, field

from vivace.config.data import DataSettings
from vivace.data.augment.acceptance import Refusal, TextEmbedder, check_meaning, check_rewrite
from vivace.data.augment.catalog import Catalog
from vivace.data.augment.wording import names_in
from vivace.data.steps.language import detect
from vivace.domain import Example, Message

MIN_CHANGED = 0.5  # a conversation with fewer of its turns changed is a copy rather than a new one

_ENCODER = msgspec.json.Encoder(order="deterministic")


class Draft(Struct, frozen=True):
    """A conversation that might join the training rows, or what was made of an origin and why it may not.

    `changes` are texts before and after; `kept` says why turns stay as they were.
    """

    id: str
    origin: str
    example: Example | None = None
    changes: tuple[tuple[str, str], ...] = ()
    refusal: Refusal | None = None
    kept: Mapping[str, int] = field(default_factory=dict)


class Source(Struct, frozen=True):
    """A training row to rewrite: `names` it mentions, `language` its code or "", `turns` to rewrite by their place."""

    example: Example
    names: frozenset[str]
    language: str
    turns: Mapping[int, str]


Proposals = Mapping[int, str | Refusal]
Propose = Callable[[Sequence[Source], int], Awaitable[list[Proposals]]]


class Rewriting:
    """One way to rewrite: `propose` gives for each row new texts by place; those that pass make the draft.

    Without an embedder, meaning is not checked: noise changes no words.
    """

    def __init__(
        self,
        name: str,
        catalog: Catalog,
        settings: DataSettings,
        propose: Propose,
        *,
        min_words: int = 1,
        embedder: TextEmbedder | None = None,
    ) -> None:
        self._name = name
        self._catalog = catalog
        self._settings = settings
        self._propose = propose
        self._min_words = min_words
        self._embedder = embedder

    def __len__(self) -> int:
        return len(self._catalog)

    async def drafts(self, places: Sequence[int], attempt: int) -> list[Draft]:
        """Return a draft for each of the catalog's rows at these places."""
        sources = [self._source(example) for example in self._catalog.rows(places)]
        proposals = await self._propose(sources, attempt)
        checked = self._check(sources, proposals)
        return [
            self._draft(source, found, attempt, proposed)
            for source, found, proposed in zip(sources, checked, proposals, strict=True)
        ]

    def _source(self, example: Example) -> Source:
        customer = {
            place: message.content
            for place, message in enumerate(example.messages)
            if message.role == "user" and message.content
        }
        turns = {place: text for place, text in customer.items() if len(text.split()) >= self._min_words}
        names = names_in(message.content for message in example.messages)
        return Source(example, names, language_of(example, self._settings), turns)

    def _check(self, sources: Sequence[Source], proposals: Sequence[Proposals]) -> list[dict[int, str | Refusal]]:
        """Return the proposals with those that do not stand for their turn replaced by the reason."""
        checked: list[dict[int, str | Refusal]] = []
        asked: list[tuple[int, int]] = []
        pairs: list[tuple[str, str]] = []
        for number, (source, proposed) in enumerate(zip(sources, proposals, strict=True)):
            checked.append({})
            for place, text in proposed.items():
                refusal = text if isinstance(text, Refusal) else None
                if isinstance(text, str):
                    refusal = check_rewrite(source.turns[place], text, source.names, source.language)
                    if refusal is None:
                        asked.append((number, place))
                        pairs.append((source.turns[place], text))
                checked[number][place] = refusal or text
        if self._embedder is not None:
            refusals = check_meaning(pairs, self._embedder, self._settings.augment.min_similarity)
            for (number, place), refusal in zip(asked, refusals, strict=True):
                if refusal is not None:
                    checked[number][place] = refusal
        return checked

    def _draft(self, source: Source, found: Mapping[int, str | Refusal], attempt: int, proposed: Proposals) -> Draft:
        origin = source.example
        name = f"{origin.id}~{self._name}-{attempt}"
        texts = {place: text for place, text in found.items() if isinstance(text, str)}
        refusals = [item for item in found.values() if isinstance(item, Refusal)]
        if not found:
            return Draft(name, origin.id, refusal=Refusal("nothing to rewrite"))
        if len(texts) < MIN_CHANGED * len(found):
            reason = Counter(refusal.reason for refusal in refusals).most_common(1)[0][0]
            detail = next(refusal.detail for refusal in refusals if refusal.reason == reason)
            tried = tuple((source.turns[place], text) for place, text in proposed.items() if isinstance(text, str))
            return Draft(name, origin.id, None, tried, Refusal(reason, detail))
        messages = tuple(
            msgspec.structs.replace(message, content=texts[place]) if place in texts else message
            for place, message in enumerate(origin.messages)
        )
        changes = tuple((source.turns[place], text) for place, text in texts.items())
        kept = Counter(refusal.reason for refusal in refusals)
        return Draft(name, origin.id, synthetic(origin, name, messages, self._name), changes, None, dict(kept))


def synthetic(origin: Example, name: str, messages: tuple[Message, ...], method: str) -> Example:
    """Return a training row made from `origin`, marked so; tools, weights and labels are the origin's."""
    metadata = {**origin.metadata, "synthetic": True, "augmentation": method, "origin": origin.id}
    return msgspec.structs.replace(
        origin,
        id=name,
        messages=messages,
        split="train",
        content_hash=hashlib.sha256(_ENCODER.encode((messages, origin.tools))).hexdigest(),
        metadata=metadata,
    )


def language_of(example: Example, settings: DataSettings) -> str:
    """Return the language of the customer's turns, "" when it cannot be told."""
    known = example.metadata.get("language")
    if isinstance(known, str) and known:
        return known
    text = " ".join(message.content for message in example.messages if message.role == "user")
    wanted = frozenset(code.lower() for code in settings.languages)
    return detect(text, wanted)[0] or (next(iter(wanted)) if len(wanted) == 1 else "")
