"""Read Markdown and text documents."""

import hashlib
import re
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from vivace.data.files import label
from vivace.data.rows import Reject
from vivace.data.steps.encoding import repair_characters
from vivace.errors import DataError

_FRONT_MATTER = re.compile(r"\A---\n(.*?)\n---\n", re.DOTALL)
_TITLE = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)
_HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$|^(\S.*)\n(?:=+|-+)\s*$", re.MULTILINE)
_FENCED = re.compile(r"^(```|~~~).*?^\1", re.DOTALL | re.MULTILINE)


class Document(Struct, frozen=True):
    """A document: `path` as reports name it, `sha256` of the file as it is, `text` with characters repaired."""

    id: str
    path: str
    title: str
    text: str
    sha256: str


def read_documents(paths: list[Path], root: Path, rejects: dict[str, list[Reject]]) -> Iterator[Document]:
    """Yield a document for each file that is text; the others go to `rejects`, by file."""
    for path in paths:
        try:
            content = path.read_bytes()
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
        name = label(path, root)
        text = _decode(content)
        if text is None:
            rejects.setdefault(name, []).append(Reject(1, "not a text file", ""))
        elif not text.strip():
            rejects.setdefault(name, []).append(Reject(1, "the document is empty", ""))
        else:
            digest = hashlib.sha256(content).hexdigest()
            text = repair_characters(re.sub("\r\n?", "\n", text)).strip() + "\n"
            identity = hashlib.sha256(f"{name}\n{digest}".encode()).hexdigest()[:12]
            yield Document(f"{path.stem}:{identity}", name, title_of(text, path), text, digest)


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
