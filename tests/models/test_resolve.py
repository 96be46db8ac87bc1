"""Names become folders, once."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.models.gguf_files import write_gguf
from vivace.domain import Model
from vivace.errors import ModelError
from vivace.models import catalog
from vivace.models.cache import Manifest, cached
from vivace.models.resolve import folder_of, is_cached, resolve


def fill(tiny_model: Path, cache: Path, name: str, **facts: str) -> Path:
    """Put the tiny model where the cache would keep `name`."""

    def build(out: Path) -> Manifest:
        for path in tiny_model.iterdir():
            (out / path.name).write_bytes(path.read_bytes())
        return Manifest(name, "test", **facts)

    return cached(folder_of(name, cache=cache), build)


def test_a_folder_is_itself(tiny_model: Path) -> None:
    assert resolve(str(tiny_model)) == Model(tiny_model.name, tiny_model, "hf", "fp32")


def test_a_folder_is_looked_for_under_the_projects_root(tiny_model: Path) -> None:
    assert resolve(tiny_model.name, root=tiny_model.parent).path == tiny_model
    assert resolve(f"./{tiny_model.name}", root=tiny_model.parent).path == tiny_model


def test_a_folder_with_code_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    import shutil

    folder = shutil.copytree(tiny_model, tmp_path / "m")
    (folder / "modeling_evil.py").write_text("")
    with pytest.raises(ModelError, match=r"modeling_evil\.py"):
        resolve(str(folder))


def test_a_gguf_file_is_converted_once(tiny_model: Path, tmp_path: Path) -> None:
    path = write_gguf(tiny_model, tmp_path / "my tiny.gguf")
    cache = tmp_path / "cache"
    model = resolve(str(path), cache=cache)
    assert (model.name, model.format, model.weights, model.license) == ("my tiny", "hf", "fp32", "Apache-2.0")
    before = (model.path / "model.safetensors").stat().st_mtime_ns
    assert resolve(str(path), cache=cache) == model
    assert (model.path / "model.safetensors").stat().st_mtime_ns == before
    os.utime(path, ns=(1, 1))
    assert resolve(str(path), cache=cache).path != model.path


def test_a_cached_model_is_found_in_milliseconds_without_heavy_libraries(tiny_model: Path, tmp_path: Path) -> None:
    name = catalog.entries()[0].name
    folder = fill(tiny_model, tmp_path, name, license="Apache-2.0")
    assert is_cached(catalog.entries()[0], cache=tmp_path)
    started = time.perf_counter()
    model = resolve(name, cache=tmp_path)
    assert time.perf_counter() - started < 0.05
    assert model == Model(name, folder, "hf", "fp32", license="Apache-2.0")
    code = f"""
import sys
from pathlib import Path
from vivace.models import resolve
resolve({name!r}, cache=Path({str(tmp_path)!r}))
sys.exit(any(name in sys.modules for name in ("torch", "transformers", "gguf", "huggingface_hub", "polars", "scipy")))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_environment_names_the_cache(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VIVACE_CACHE", str(tmp_path))
    fill(tiny_model, tmp_path, "owner/model")
    assert resolve("owner/model").path == tmp_path / "models" / "owner--model"


def test_revisions_lie_apart(tmp_path: Path) -> None:
    folders = {
        folder_of("owner/model", revision, cache=tmp_path) for revision in ("main", "v1", "refs/pr/1", "refs-pr-1")
    }
    assert len(folders) == 4
    assert all(folder.parent == tmp_path / "models" for folder in folders)


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="Did you mean 'smollm2-135m-instruct'"):
        resolve("smollm2-135m-instrukt", cache=tmp_path)


@pytest.mark.parametrize("name", ["./absent", "/absent/model", "~/absent-model", "absent.gguf"])
def test_an_absent_folder_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model folder or GGUF file"):
        resolve(name, cache=tmp_path)


@pytest.mark.parametrize("name", ["../../etc/passwd", "a/b/c", "owner/..", "owner/mo del", "http://x/y"])
def test_a_name_cannot_lead_out_of_the_cache(name: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        resolve(name, cache=tmp_path)
    assert not (tmp_path / "models").exists()


def test_without_network_a_hub_name_gives_a_sentence(tmp_path: Path) -> None:
    # The fixture of this suite sets HF_HUB_OFFLINE.
    with pytest.raises(ModelError, match="owner/model cannot be downloaded") as caught:
        resolve("owner/model", cache=tmp_path)
    assert "models.base" in caught.value.hint
    assert [path.name for path in (tmp_path / "models").iterdir()] == [".owner--model.lock"]


@pytest.mark.slow
@pytest.mark.real
def test_the_default_model_is_what_its_entry_says(real_model: Path) -> None:
    from vivace.models.cache import is_intact
    from vivace.models.identify import describe

    entry = catalog.entries()[0]
    described = describe(real_model)
    assert (described.parameters, described.context_length) == (entry.parameters, entry.context_length)
    assert described.license == entry.license
    assert "Q4_1" in described.note
    assert is_intact(real_model)
