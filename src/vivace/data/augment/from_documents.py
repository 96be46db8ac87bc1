"""Conversations from documents: a model asks and answers what one passage says, and nothing else."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from vivace.config.data import DataSettings
from vivace.data.augment.acceptance import Exchange, Refusal, check_grounded
from vivace.data.augment.rewriting import Draft, synthetic
from vivace.data.augment.writer import Writer
from vivace.data.steps.language import detect
from vivace.domain import Example, Message
from vivace.errors import ConfigError

MAX_PASSAGE_CHARS = 1200
MAX_HEADING_CHARS = 200
MIN_PASSAGE_WORDS = 12
MAX_EXCHANGES = 3

_HEADING = re.compile(r"#{1,6}[ \t]+\S[^\n]*|\S[^\n]*\n(?:=+|-{3,})[ \t]*(?=\n|\Z)")
_LABEL = re.compile(
    r"^\W*(?:(?P<question>q|question|customer|user|client)|(?:a|answer|agent|assistant|support))"
    r"\s*\d{0,2}\W{0,2}:\W{0,2}(?:\s+|$)",
    re.IGNORECASE | re.MULTILINE,
)
_QUESTION_KEYS = ("question", "q", "customer", "user", "prompt", "input")
_ANSWER_KEYS = ("answer", "a", "agent", "assistant", "response", "output")


class Page(Struct, frozen=True):
    """A line of `documents.jsonl`, as far as it is needed."""

    id: str
    text: str
    path: str = ""
    title: str = ""


class Passage(Struct, frozen=True):
    """A part of a document, with the heading it stands under."""

    id: str
    text: str
    source: str


class FromDocuments:
    """Drafts conversations from passages, in an order drawn by the seed; `system` is the agent's own instruction."""

    def __init__(self, documents: Path, settings: DataSettings, writer: Writer, system: str) -> None:
        found = [passage for page in _pages(documents) for passage in passages(page)]
        if not found:
            raise ConfigError(
                "augment.methods names 'from_documents', but the dataset has no documents to write from.",
                "Name files in data.documents, or leave the method out.",
            )
        self._passages = sorted(found, key=lambda each: _draw(each.id, settings.seed))
        self._writer = writer
        self._system = system

    def __len__(self) -> int:
        return len(self._passages)

    async def drafts(self, places: Sequence[int], attempt: int) -> list[Draft]:
        """Return a draft for each of the passages at these places."""
        chosen = [self._passages[place] for place in places]
        written = await self._writer.write(
            [(passage.id, _prompt(passage.text, self._system)) for passage in chosen], attempt
        )
        return [_draft(passage, text, attempt) for passage, text in zip(chosen, written, strict=True)]


def passages(page: Page) -> Iterator[Passage]:
    """Yield the parts of a document: paragraphs under one heading, at most 1,200 characters with it."""
    number = 0
    for heading, paragraphs in _sections(page):
        for text in _packed(paragraphs, MAX_PASSAGE_CHARS - len(heading) - 2):
            if len(text.split()) >= MIN_PASSAGE_WORDS:
                number += 1
                yield Passage(f"{page.id}#{number}", f"{heading}\n\n{text}".strip(), page.path or page.id)


def parse_exchanges(text: str) -> list[Exchange]:
    """Return what a model wrote as questions and answers: JSON in any usual shape, or lines that begin with Q: and A:.

    A question without an answer at the end is left out; an empty list means that nothing was understood.
    """
    return _from_json(text) or _from_lines(text)


def _draft(passage: Passage, written: str | Refusal, attempt: int) -> Draft:
    name = f"{passage.id}~from_documents-{attempt}"
    if isinstance(written, Refusal):
        return Draft(name, passage.id, refusal=written)
    exchanges = parse_exchanges(written)[:MAX_EXCHANGES]
    if not exchanges:
        return Draft(name, passage.id, None, ((passage.text, written),), Refusal("not questions and answers"))
    changes = ((passage.text, "\n".join(f"Q: {each.question}\nA: {each.answer}" for each in exchanges)),)
    if (refusal := check_grounded(passage.text, exchanges)) is not None:
        return Draft(name, passage.id, None, changes, refusal)
    messages = tuple(
        message for each in exchanges for message in (Message("user", each.question), Message("assistant", each.answer))
    )
    language, _score = detect(passage.text)
    origin = Example(passage.id, (), source=passage.source, metadata={"language": language} if language else {})
    return Draft(name, passage.id, synthetic(origin, name, messages, "from_documents"), changes)


def _prompt(passage: str, system: str) -> str:
    agent = f"The agent was told: {system}\n" if system else ""
    instruction = (
        "Write a short conversation of a customer with a support agent about the passage below, in the passage's "
        "language: one to three questions, each with an answer that says only what the passage says. Names and numbers "
        f"must be those of the passage. {agent}Write lines that begin with Q: and A: and nothing else.\n\n"
    )
    return f"{instruction}Passage:\n{passage}"


def _pages(path: Path) -> Iterator[Page]:
    decoder = msgspec.json.Decoder(Page)
    if path.is_file():
        with open(path, "rb") as file:
            yield from map(decoder.decode, file)


def _sections(page: Page) -> Iterator[tuple[str, list[str]]]:
    """Yield each heading, of at most 200 characters, with the paragraphs under it."""
    heading, paragraphs = page.title[:MAX_HEADING_CHARS], list[str]()
    for block in map(str.strip, re.split(r"\n\s*\n", page.text)):
        match = _HEADING.match(block)
        if match:
            yield heading, paragraphs
            heading, paragraphs = match[0].partition("\n")[0].strip("# \t")[:MAX_HEADING_CHARS], []
        paragraphs.append(block[match.end() :].strip() if match else block)
    yield heading, paragraphs


def _packed(paragraphs: Sequence[str], limit: int) -> Iterator[str]:
    """Yield as many paragraphs together as `limit` characters hold; longer ones are cut."""
    text = ""
    for piece in (piece for paragraph in paragraphs for piece in _cut(paragraph, limit)):
        if text and len(text) + 2 + len(piece) > limit:
            yield text
            text = ""
        text = f"{text}\n\n{piece}".strip()
    yield text


def _cut(paragraph: str, limit: int) -> Iterator[str]:
    """Yield a paragraph whole, or cut after sentences, words or anywhere, so that no piece is longer than `limit`."""
    while len(paragraph) > limit:
        end = max(paragraph.rfind(mark, limit // 2, limit) + len(mark) for mark in (". ", "! ", "? ", "\n"))
        if end <= limit // 2:
            end = paragraph.rfind(" ", limit // 2, limit) + 1 or limit
        yield paragraph[:end].strip()
        paragraph = paragraph[end:].strip()
    yield paragraph


def _from_lines(text: str) -> list[Exchange]:
    marks = list(_LABEL.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    turns = [
        (bool(mark["question"]), text[mark.end() : end].strip(" \n\t*-"))
        for mark, end in zip(marks, ends, strict=False)
    ]
    return [
        Exchange(question, answer)
        for (asks, question), (asks_too, answer) in pairwise(turns)
        if asks and not asks_too and question and answer
    ]


def _from_json(text: str) -> list[Exchange]:
    start = min((place for place in (text.find("["), text.find("{")) if place >= 0), default=-1)
    if start < 0:
        return []
    try:
        value, _end = json.JSONDecoder().raw_decode(text[start:])
    except (ValueError, RecursionError):
        return []
    return list(_exchanges(value))


def _exchanges(value: Any) -> Iterator[Exchange]:
    if isinstance(value, dict):
        question, answer = (_first(value, keys) for keys in (_QUESTION_KEYS, _ANSWER_KEYS))
        if question and answer:
            yield Exchange(question, answer)
        else:
            for inner in value.values():
                yield from _exchanges(inner)
    elif isinstance(value, list):
        spoken = [item for item in value if isinstance(item, dict) and isinstance(item.get("content"), str)]
        if len(spoken) == len(value) > 1:
            for asked, said in pairwise(spoken):
                if asked.get("role") == "user" and said.get("role") == "assistant":
                    yield Exchange(asked["content"].strip(), said["content"].strip())
        else:
            for item in value:
                yield from _exchanges(item)


def _first(value: dict[str, Any], keys: Sequence[str]) -> str:
    small = {str(key).casefold(): item for key, item in value.items()}
    return next((str(small[key]).strip() for key in keys if isinstance(small.get(key), str)), "")


def _draw(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"passage {seed} {name}".encode(errors="surrogatepass"), digest_size=8).digest()
