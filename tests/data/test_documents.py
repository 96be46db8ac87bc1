"""Documents: text, title, and what is not text set aside."""

import gzip
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vivace.data import sniff
from vivace.data.documents.conversion import Converter, Order, convert
from vivace.data.documents.reading import Document, read_documents
from vivace.data.documents.rows import holds_documents
from vivace.data.reading.records import Source
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


def pdf(path: Path, *pages: str, password: str = "") -> Path:
    from reportlab.lib.pdfencrypt import StandardEncryption
    from reportlab.pdfgen.canvas import Canvas

    canvas = Canvas(str(path), encrypt=StandardEncryption(password) if password else None)
    for text in pages:
        canvas.drawString(72, 720, text)
        canvas.showPage()
    canvas.save()
    return path


def docx(path: Path, heading: str, text: str) -> Path:
    from docx import Document as Docx

    made = Docx()
    made.add_heading(heading, 1)
    made.add_paragraph(text)
    made.save(str(path))
    return path


PAGE = """<!DOCTYPE html><html><head><title>Returns &amp; refunds | Shop</title>
<script src="https://shop.example/a.js"></script><link rel="stylesheet" href="https://shop.example/a.css"></head>
<body><nav><a href="/">Home</a><a href="/x">Other</a></nav><main><article><h1>Returns</h1>
<p>You may send goods back within 30 days of delivery, unworn and in their box, at no cost to you.</p>
<ul><li>Refunds take five working days.</li></ul><img src="https://shop.example/a.png"></article></main>
<footer>Imprint</footer></body></html>"""


def read_all(root: Path, *names: str) -> tuple[dict[str, Document], dict[str, str]]:
    rejects: dict[str, list[Reject]] = {}
    found = list(read_documents([root / name for name in names], root, rejects))
    return {document.path: document for document in found}, {name: items[0].reason for name, items in rejects.items()}


@pytest.mark.slow
def test_pages_pdf_and_word_files_become_text_and_broken_ones_say_why(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(PAGE)
    pdf(tmp_path / "a.pdf", "We open at nine.", "We close at six.")
    pdf(tmp_path / "scan.pdf", "")
    pdf(tmp_path / "locked.pdf", "Secret.", password="x")
    docx(tmp_path / "a.docx", "Warranty", "Two years on every grinder.")
    (tmp_path / "torn.docx").write_bytes((tmp_path / "a.docx").read_bytes()[:900])
    (tmp_path / "torn.pdf").write_bytes(b"%PDF-1.4 nothing")
    (tmp_path / "empty.html").write_text("<html></html>")
    names = sorted(path.name for path in tmp_path.iterdir())
    found, reasons = read_all(tmp_path, *names)
    assert found["page.html"].title == "Returns & refunds | Shop"
    assert "within 30 days" in found["page.html"].text
    assert "five working days" in found["page.html"].text
    assert "Imprint" not in found["page.html"].text
    assert "open at nine" in found["a.pdf"].text
    assert "close at six" in found["a.pdf"].text
    assert (found["a.docx"].title, "Two years" in found["a.docx"].text) == ("Warranty", True)
    assert sorted(reasons) == ["empty.html", "locked.pdf", "scan.pdf", "torn.docx", "torn.pdf"]
    assert reasons["locked.pdf"] == "the PDF is encrypted"
    assert reasons["scan.pdf"].startswith("the PDF has no text")
    assert reasons["torn.docx"].startswith("not a valid DOCX file")
    assert reasons["torn.pdf"].startswith("not a valid PDF file")
    again, _ = read_all(tmp_path, "a.pdf", "page.html")
    assert again["a.pdf"] == found["a.pdf"]


@pytest.mark.slow
def test_a_conversion_that_takes_too_long_is_ended_and_the_next_goes_on(tmp_path: Path) -> None:
    path = pdf(tmp_path / "a.pdf", "We open at nine.")
    slow = tmp_path / "slow.pdf"
    os.mkfifo(slow)  # a file that never gives its first byte
    converter = Converter(deadline_s=1.0)
    try:
        assert converter.convert(slow, "pdf").problem == "converting it takes longer than 1 s"
        converter.deadline_s = 60.0
        assert "open at nine" in converter.convert(path, "pdf").text
    finally:
        converter.close()


def test_a_web_page_gives_its_main_text_and_title(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(PAGE)
    converted = convert(Order(str(tmp_path / "page.html"), "html"))
    assert (converted.title, converted.problem) == ("Returns & refunds | Shop", "")
    assert "within 30 days" in converted.text
    assert "Imprint" not in converted.text


def test_a_page_too_short_for_a_main_text_gives_all_that_is_seen(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<body><script>track()</script><style>p {}</style><p>Closed.</p></body>")
    assert convert(Order(str(tmp_path / "page.html"), "html")).text.strip() == "Closed."


def test_the_converter_reaches_no_network() -> None:
    code = (
        "from vivace.data.documents.conversion import _fence; _fence(); import socket; "
        "socket.create_connection(('localhost', 9))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "PermissionError: socket.getaddrinfo is not allowed here" in done.stderr


def test_rows_of_json_lines_are_documents_with_their_own_ids(tmp_path: Path) -> None:
    rows = [
        {"doc_id": "hotel:0:faq:1", "title": "Pets", "text": "No pets, please.", "entity": "Inn", "domain": "hotel"},
        {"id": 7, "text": "# Parking\nBehind the house."},
        {"title": "Breakfast", "text": "From seven."},
        {"doc_id": "hotel:0:faq:1", "text": "Twice."},
        {"title": "Nothing"},
    ]
    (tmp_path / "kb.jsonl.gz").write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))
    rejects: dict[str, list[Reject]] = {}
    found = list(read_documents([tmp_path / "kb.jsonl.gz"], tmp_path, rejects))
    assert [document.id for document in found][:2] == ["hotel:0:faq:1", "7"]
    assert found[2].id == f"kb:{hashlib.sha256(b'From seven.').hexdigest()[:12]}"
    assert found[3].id == "hotel:0:faq:1-2"
    assert [document.title for document in found[:3]] == ["Pets", "Parking", "Breakfast"]
    assert found[0].metadata == {"entity": "Inn", "domain": "hotel"}
    assert found[0].text == "No pets, please.\n"
    assert [(reject.line, reject.reason) for reject in rejects["kb.jsonl.gz"]] == [(5, "no `text`")]
    assert holds_documents(Source(tmp_path / "kb.jsonl.gz"))
    assert sniff([tmp_path / "kb.jsonl.gz"]).settings == {"documents": [str(tmp_path / "kb.jsonl.gz")]}


def test_conversations_and_labeled_queries_are_no_documents(tmp_path: Path) -> None:
    for row in ({"messages": [], "title": "x"}, {"text": "Hi", "label": "greeting", "title": "x"}, {"text": "Hi"}):
        (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
        assert not holds_documents(Source(tmp_path / "a.jsonl"))
