"""Documents: text, title, and what is not text set aside."""

import hashlib
from pathlib import Path

import pytest

from vivace.data.documents import Document, read_documents
from vivace.data.rows import Reject


def read(path: Path, content: bytes) -> tuple[list[Document], dict[str, list[Reject]]]:
    path.write_bytes(content)
    rejects: dict[str, list[Reject]] = {}
    return list(read_documents([path], path.parent, rejects)), rejects


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("intro\n\n## Returns and refunds ##\ntext", "Returns and refunds"),
        ("---\ntitle: 'From front matter'\n---\n# Heading\n", "From front matter"),
        ("---\ntags: x\n---\n# Heading\n", "Heading"),
        ("Underlined\n==========\ntext", "Underlined"),
        ("```\n# no heading\n```\ntext", "about us"),
        ("just text", "about us"),
    ],
)
def test_the_title_is_the_front_matters_or_the_first_headings_or_the_files(
    tmp_path: Path, content: str, title: str
) -> None:
    (document,), _ = read(tmp_path / "about-us.md", content.encode())
    assert document.title == title


def test_a_document_keeps_path_hash_and_repaired_text(tmp_path: Path) -> None:
    content = "# CafÃ©\r\n\r\nOpen daily.\r\n".encode()
    (document,), rejects = read(tmp_path / "cafe.md", content)
    assert (document.path, document.text, rejects) == ("cafe.md", "# Café\n\nOpen daily.\n", {})
    assert document.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "reason"), [(b"\x89PNG\x00\x01", "not a text file"), (b" \n", "the document is empty")]
)
def test_what_is_no_text_is_set_aside(tmp_path: Path, content: bytes, reason: str) -> None:
    documents, rejects = read(tmp_path / "a.txt", content)
    assert documents == []
    assert rejects["a.txt"][0].reason == reason
