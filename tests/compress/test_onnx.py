"""An ONNX export loads in onnxruntime-genai and answers nearly as transformers does."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.compress.numbers import Floats, token_logprobs, torch_logits
from vivace.compress import export
from vivace.domain import Message, Model, SilentProgress
from vivace.errors import ModelError
from vivace.models import ChatTokenizer, identify

pytestmark = pytest.mark.slow

Exported = Callable[[str], Model]


def onnx_logits(folder: Path, prompts: list[list[int]]) -> list[Floats]:
    """Feed each prompt token by token and return the logits [tokens, vocabulary]."""
    import onnxruntime_genai as genai

    genai.set_log_options(enabled=False)
    model = genai.Model(str(folder))
    every = []
    for ids in prompts:
        settings = genai.GeneratorParams(model)
        settings.set_search_options(max_length=len(ids) + 1)
        generator = genai.Generator(model, settings)
        rows = []
        for number in ids:
            generator.append_tokens(np.array([[number]], np.int32))
            rows.append(generator.get_output("logits")[0, -1].copy())
        every.append(np.stack(rows))
    return every


# The tiny model's weights are noise, which 4 bits hold badly: a trained model loses far less (docs/compress.md).
@pytest.mark.parametrize(("kind", "bound"), [("onnx-int8", 0.15), ("onnx-int4", 1.5)])
def test_compressed_weights_keep_the_logprobs_within_a_bound(
    exported: Exported, half_model: Model, prompts: list[list[int]], kind: str, bound: float
) -> None:
    chosen = [ids for ids in prompts if 1 < len(ids) < 100]
    expected = torch_logits(half_model.path, chosen)
    found = onnx_logits(exported(kind).path, chosen)
    differences = [
        token_logprobs(ours, ids) - token_logprobs(theirs, ids)
        for ours, theirs, ids in zip(found, expected, chosen, strict=True)
    ]
    assert np.abs(np.concatenate(differences)).mean() < bound


@pytest.mark.parametrize(("kind", "weights"), [("onnx-int4", "int4"), ("onnx-int8", "int8")])
def test_an_export_is_a_folder_others_can_open(exported: Exported, half_model: Model, kind: str, weights: str) -> None:
    model = exported(kind)
    assert (model.format, model.weights, model.license) == ("onnx", weights, "Apache-2.0")
    assert identify(model.path).weights == weights
    ours, theirs = ChatTokenizer.open(model.path), ChatTokenizer.open(half_model.path)
    messages = [Message("user", "Where is my order?")]
    assert ours.encode_chat(messages) == theirs.encode_chat(messages)
    assert ours.eos_ids == theirs.eos_ids == {2}
    assert json.loads((model.path / "genai_config.json").read_bytes())["model"]["eos_token_id"] == 2
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (model.path / name).read_bytes() == (half_model.path / name).read_bytes()


def test_an_export_names_no_place_on_this_machine(exported: Exported, half_model: Model) -> None:
    folder = exported("onnx-int4").path
    for path in folder.iterdir():
        content = path.read_bytes()
        for place in (str(half_model.path), str(folder.parent), str(Path.home())):
            assert place.encode() not in content, f"{path.name} names {place}"


def test_a_failing_builder_is_one_sentence_and_leaves_no_folder(half_model: Model, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(half_model.path, folder)
    config = json.loads((folder / "config.json").read_bytes())
    (folder / "config.json").write_text(json.dumps(config | {"hidden_size": 60}))
    with pytest.raises(ModelError) as failure:
        export(Model("broken", folder, "hf", "fp32"), "onnx-int4", tmp_path / "out", SilentProgress())
    assert failure.value.message.startswith("Exporting broken to ONNX int4 failed: ")
    assert "Traceback" not in failure.value.message
    assert "\n" not in failure.value.message
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
