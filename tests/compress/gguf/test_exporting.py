"""An export to GGUF appears whole or not at all, with all that an engine looks for, and says what it did."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.compress.gguf.reading import LlamaCpp, changed
from vivace.compress.calibration import Calibration
from vivace.compress.gguf import KINDS, export
from vivace.domain import Message, Model, SilentProgress
from vivace.engines.llamacpp import gguf_path
from vivace.errors import ConfigError, ModelError
from vivace.models import ChatTokenizer
from vivace.models.gguf_file import read_header
from vivace.store.files import folder_digest

ROWS = tuple(tuple(range(3 + number, 83 + number)) for number in range(4))


class Heard(SilentProgress):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture(scope="module")
def exported(half_model: Model, tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, list[str]]:
    heard = Heard()
    out = tmp_path_factory.mktemp("gguf") / "q4"
    return export(half_model, "gguf-q4_0", out, heard, None, Calibration(ROWS, "domain")), heard.said


@pytest.mark.slow
def test_an_export_holds_one_file_and_the_models_own_tokenizer(
    exported: tuple[Model, list[str]], half_model: Model
) -> None:
    model, said = exported
    assert (model.format, model.weights, model.license) == ("gguf", "Q4_0", "Apache-2.0")
    assert read_header(gguf_path(model.path)).metadata["quantize.imatrix.chunks_count"] == 4
    ours, theirs = ChatTokenizer.open(model.path), ChatTokenizer.open(half_model.path)
    messages = [Message("user", "Where is my order? ½ 👋")]
    assert ours.encode_chat(messages) == theirs.encode_chat(messages)
    assert ours.eos_ids == theirs.eos_ids
    with LlamaCpp(gguf_path(model.path)) as llama:
        assert llama.logits([1, 2, 3]).shape == (3, 512)
    assert len(said) == 1
    assert said[0].startswith("gguf-q4_0: 0 MB, ")
    assert "Q4_0" in said[0]
    assert "importance of 320 tokens (domain)" in said[0]


@pytest.mark.slow
def test_an_export_names_no_place_on_this_machine(exported: tuple[Model, list[str]], half_model: Model) -> None:
    for path in exported[0].path.iterdir():
        for place in (str(half_model.path), str(exported[0].path.parent), str(Path.home())):
            assert place.encode() not in path.read_bytes(), f"{path.name} names {place}"


@pytest.mark.slow
def test_the_same_model_and_texts_give_the_same_bytes(
    exported: tuple[Model, list[str]], half_model: Model, tmp_path: Path
) -> None:
    again = export(half_model, "gguf-q4_0", tmp_path / "again", Heard(), None, Calibration(ROWS, "domain"))
    assert folder_digest(again.path) == folder_digest(exported[0].path)
    without = export(half_model, "gguf-q4_0", tmp_path / "without", Heard())
    assert folder_digest(without.path) != folder_digest(exported[0].path)


def test_eight_bits_look_at_no_texts(half_model: Model, tmp_path: Path) -> None:
    heard = Heard()
    model = export(half_model, "gguf-q8_0", tmp_path / "q8", heard, None, Calibration(ROWS, "domain"))
    assert "importance" not in heard.said[0]
    assert "quantize.imatrix.dataset" not in read_header(gguf_path(model.path)).metadata


def test_what_cannot_be_exported_is_refused_before_anything_is_written(half_model: Model, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no export 'gguf-q4km'.*gguf-q4_k_m"):
        export(half_model, "gguf-q4km", tmp_path / "out", SilentProgress())
    gemma = changed(half_model.path, tmp_path / "g", "config.json", lambda it: it.update(architectures=["Gemma"]))
    unigram = changed(half_model.path, tmp_path / "u", "tokenizer.json", lambda it: it["model"].update(type="Unigram"))
    for folder, said in ((gemma, "architecture Gemma"), (unigram, "Unigram")):
        with pytest.raises(ModelError, match=said):
            export(Model("tiny", folder, "hf", "fp32"), "gguf-q8_0", tmp_path / "out", SilentProgress())
    assert not (tmp_path / "out").exists()
    assert set(KINDS) == {"gguf-f16", "gguf-q8_0", "gguf-q6_k", "gguf-q4_k_m", "gguf-q4_0"}


def test_a_failure_in_the_other_process_is_one_sentence_here(half_model: Model, tmp_path: Path) -> None:
    folder = changed(half_model.path, tmp_path / "m", "config.json", lambda it: it.update(num_hidden_layers=2))
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-100])
    with pytest.raises(ModelError, match="Exporting tiny to GGUF failed: "):
        export(Model("tiny", folder, "hf", "fp32"), "gguf-f16", tmp_path / "out", SilentProgress())
    assert not (tmp_path / "out").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m"]


EXPORTER = """
import sys
from pathlib import Path
from vivace.compress.calibration import Calibration
from vivace.compress.gguf import export
from vivace.domain import Model, SilentProgress
calibration = Calibration(tuple(tuple(range(3, 400)) for _ in range(int(sys.argv[3]))), "domain")
model = Model("tiny", Path(sys.argv[1]), "hf", "fp32")
export(model, "gguf-q4_0", Path(sys.argv[2]), SilentProgress(), None, calibration)
heavy = {"torch", "transformers", "xllamacpp", "gguf"} & set(sys.modules)
assert not heavy, f"the exporting process holds {heavy}"
"""


def _exporting(half_model: Model, out: Path, rows: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", EXPORTER, str(half_model.path), str(out), str(rows)]
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": "src"})


@pytest.mark.slow
def test_the_heavy_libraries_live_in_another_process(half_model: Model, tmp_path: Path) -> None:
    assert _exporting(half_model, tmp_path / "out", 2).wait(120) == 0


@pytest.mark.slow
def test_a_killed_export_leaves_neither_a_folder_nor_a_process(half_model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = _exporting(half_model, out, 4000)
    deadline = time.monotonic() + 60
    children: list[psutil.Process] = []
    while not children and time.monotonic() < deadline:
        time.sleep(0.05)
        children = psutil.Process(process.pid).children()
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert children
    _, left = psutil.wait_procs(children, timeout=5)
    assert {each.status() for each in left} <= {psutil.STATUS_ZOMBIE}  # ended; whoever inherited it has yet to notice
    assert not out.exists()
    # What was left aside does not stand in the way of the next.
    export(half_model, "gguf-q4_0", out, SilentProgress())
    assert len(list(out.glob("*.gguf"))) == 1
