"""Read documents: Markdown, text and RST as they are, web pages, PDF and DOCX converted, rows of JSON Lines."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from vivace.data.documents.conversion import CONVERTED_SUFFIXES, MAX_FILE_BYTES, Converted, Converter, converter
from vivace.data.documents.rows import text_rows
from vivace.data.reading.files import label, stem, unpacked_name
from vivace.data.reading.records import Source
from vivace.data.rows import Reject
from vivace.data.steps.encoding import repair_characters
from vivace.errors import DataError

_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_TITLE = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$|^(\S.*)\n(?:=+|-+)\s*$", re.MULTILINE)
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


class Document(Struct, frozen=True):
    """A document: `path` as reports name it, `text` with characters repaired.

    `sha256` is the file's as it is, or the row's where documents are rows; `metadata` is what a row says beside.
    """

    id: str
    path: str
    title: str
    text: str
    sha256: str
    metadata: dict[str, Any] = field(default_factory=dict)


def read_documents(paths: list[Path], root: Path, rejects: dict[str, list[Reject]]) -> Iterator[Document]:
    """Yield the documents of each file; what cannot be read goes to `rejects`, by file."""
    seen: set[str] = set()
    with converter() as converting:
        for path in paths:
            name = label(path, root)
            found = _rows(path, name) if unpacked_name(path).endswith((".jsonl", ".ndjson")) else None
            for item in found or _file(path, name, converting):
                if isinstance(item, Reject):
                    rejects.setdefault(name, []).append(item)
                else:
                    yield _unique(item, seen)


def _rows(path: Path, name: str) -> Iterator[Document | Reject]:
    row = None
    for row in text_rows(Source(path)):
        if isinstance(row, Reject):
            yield row
            continue
        text = _repaired(row.text)
        identity = row.own_id or f"{stem(path)}:{hashlib.sha256(row.text.encode()).hexdigest()[:12]}"
        yield Document(
            identity, name, repair_characters(row.title) or title_of(text, path), text, row.sha256, row.metadata
        )
    if row is None:
        yield Reject(1, "the file has no documents", "")


def _file(path: Path, name: str, converting: Converter) -> Iterator[Document | Reject]:
    try:
        content = path.read_bytes() if path.stat().st_size <= MAX_FILE_BYTES else None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if content is None:
        yield Reject(1, f"the file is larger than {MAX_FILE_BYTES >> 20} MiB", "")
        return
    kind = CONVERTED_SUFFIXES.get(path.suffix.lower(), "") or ("pdf" if content.startswith(b"%PDF-") else "")
    converted = converting.convert(path, kind) if kind else _plain(content)
    if converted.problem:
        yield Reject(1, converted.problem, "")
        return
    digest = hashlib.sha256(content).hexdigest()
    text = _repaired(converted.text)
    identity = hashlib.sha256(f"{name}\n{digest}".encode()).hexdigest()[:12]
    yield Document(f"{path.stem}:{identity}", name, converted.title or title_of(text, path), text, digest)


def _plain(content: bytes) -> Converted:
    text = _decode(content)
    if text is None:
        return Converted(problem="not a text file")
    return Converted(text) if text.strip() else Converted(problem="the document is empty")


def _repaired(text: str) -> str:
    return repair_characters(re.sub("\r\n?", "\n", text)).strip() + "\n"


def _unique(document: Document, seen: set[str]) -> Document:
    name, count = document.id, 1
    while name in seen:
        count += 1
        name = f"{document.id}-{count}"
    seen.add(name)
    return document if count == 1 else msgspec.structs.replace(document, id=name)


def title_of(text: str, path: Path) -> str:
    """Return the title that front matter or the first heading gives, else the file's name in words."""
    front = _FRONT_MATTER.match(text)
    if front and (title := _TITLE.search(front[1])):
        return title[1]
    heading = _HEADING.search(_FENCED.sub("", text[front.end() :] if front else text))
    return (heading[1] or heading[2]) if heading else re.sub(r"[-_]+", " ", path.stem).strip()


def _decode(content: bytes) -> str | None:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    if b"\x00" in content:
        return None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")
