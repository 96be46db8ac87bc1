"""Web pages, PDF and DOCX as text, made by a child process that may neither hang nor reach the network."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

MAX_FILE_BYTES = 64 << 20
MAX_UNPACKED_BYTES = 512 << 20
MAX_MEMORY_BYTES = 6 << 30
DEADLINE_S = 60.0
CONVERTED_SUFFIXES = {".html": "html", ".htm": "html", ".xhtml": "html", ".pdf": "pdf", ".docx": "docx"}
_NETWORK = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")
_MIN_STARTED_S = 30.0


class Order(Struct):
    """What the child is asked."""

    path: str
    kind: str


class Converted(Struct):
    """What came of a file: its text, its title if it has one, or what is wrong with it."""

    text: str = ""
    title: str = ""
    problem: str = ""


class Converter:
    """Converts files one after the other in a child process, which is started when first needed."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self.deadline_s = deadline_s
        self._process: subprocess.Popen[bytes] | None = None

    def convert(self, path: Path, kind: str) -> Converted:
        """Return the text of a file; `kind` is html, pdf or docx. What is wrong is told, never raised."""
        if path.stat().st_size > MAX_FILE_BYTES:
            return Converted(problem=f"the file is larger than {MAX_FILE_BYTES >> 20} MiB")
        process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Event()

        def stop() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self.deadline_s, stop)
        timer.start()
        try:
            process.stdin.write(msgspec.json.encode(Order(str(path.resolve()), kind)) + b"\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except BrokenPipeError:
            answer = b""
        finally:
            timer.cancel()
        if answer.endswith(b"\n"):
            return msgspec.json.decode(answer, type=Converted)
        self.close()
        if late.is_set():
            return Converted(problem=f"converting it takes longer than {self.deadline_s:g} s")
        return Converted(problem="the converter crashed on it")

    def close(self) -> None:
        """End the child."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def _started(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "vivace.data.documents.conversion"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            # importing the libraries is not the document's fault: the clock starts when the child is ready
            timer = threading.Timer(_MIN_STARTED_S, self._process.kill)
            timer.start()
            assert self._process.stdout
            self._process.stdout.readline()
            timer.cancel()
        return self._process


@contextmanager
def converter() -> Iterator[Converter]:
    """Give a converter and end its child at last."""
    opened = Converter()
    try:
        yield opened
    finally:
        opened.close()


def convert(order: Order) -> Converted:
    """Return the text of a file, in this process; used by the child."""
    try:
        if order.kind == "html":
            return _html(Path(order.path))
        return _pdf(Path(order.path)) if order.kind == "pdf" else _docx(Path(order.path))
    except (Exception, RecursionError) as error:
        return Converted(problem=_told(order.kind, error))


def _html(path: Path) -> Converted:
    import trafilatura

    page = path.read_bytes()
    tree = trafilatura.load_html(page)
    if tree is None:
        return Converted(problem="not a web page")
    title = " ".join((tree.findtext(".//title") or "").split())
    text = trafilatura.extract(
        page, output_format="markdown", include_comments=False, include_tables=True, favor_recall=True
    )
    for unseen in tree.xpath("//script | //style | //noscript | //template"):
        unseen.drop_tree()
    text = text or "\n".join(line.strip() for line in tree.text_content().splitlines() if line.strip())
    return Converted(text, title) if text.strip() else Converted(problem="the document is empty")


def _pdf(path: Path) -> Converted:
    from markitdown import StreamInfo
    from markitdown.converters import PdfConverter

    with path.open("rb") as file:
        text = PdfConverter().convert(file, StreamInfo(extension=".pdf")).markdown
    if not text.strip():
        return Converted(problem="the PDF has no text: pages that are pictures need to be recognized (OCR) first")
    return Converted(text)


def _docx(path: Path) -> Converted:
    import zipfile

    from markitdown import StreamInfo
    from markitdown.converters import DocxConverter

    with zipfile.ZipFile(path) as packed:
        if sum(info.file_size for info in packed.infolist()) > MAX_UNPACKED_BYTES:
            return Converted(problem=f"it unpacks to more than {MAX_UNPACKED_BYTES >> 20} MiB")
    with path.open("rb") as file:
        opened: Any = DocxConverter
        text = opened().convert(file, StreamInfo(extension=".docx")).markdown
    return Converted(text) if text.strip() else Converted(problem="the document is empty")


def _told(kind: str, error: BaseException) -> str:
    name = type(error).__name__
    if isinstance(error, PermissionError):
        return "converting it asked for the network"
    if "Password" in name or "Encrypt" in name or "encrypt" in str(error).lower() or "password" in repr(error).lower():
        return f"the {kind.upper()} is encrypted"
    return f"not a valid {kind.upper()} file: {name}"


def _serve() -> None:
    """Answer orders from standard input until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print must not mix with the answers
    _fence()
    import markitdown  # noqa: F401
    import trafilatura  # noqa: F401

    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin.buffer:
        answers.write(msgspec.json.encode(convert(msgspec.json.decode(line, type=Order))) + b"\n")
        answers.flush()


def _fence() -> None:
    def refuse_network(event: str, _arguments: tuple[Any, ...]) -> None:
        if event in _NETWORK:
            raise PermissionError(f"{event} is not allowed here")

    sys.addaudithook(refuse_network)
    if sys.platform != "win32":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))


if __name__ == "__main__":
    _serve()
