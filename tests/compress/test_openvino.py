"""An OpenVINO export answers as transformers does."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.numpy import load_file, save_file

from tests.compress.numbers import OpenVinoModel, token_logprobs, torch_logits
from vivace.compress import export, size_facts
from vivace.domain import Message, Model, SilentProgress
from vivace.models import ChatTokenizer, identify
from vivace.store.files import folder_digest

pytestmark = pytest.mark.slow

Exported = Callable[[str], Model]
# Logits of the tiny model lie in about +-20; float32 sums in another order differ by less than this.
EXACT = 2e-4


@pytest.fixture(scope="module")
def graph(exported: Exported) -> OpenVinoModel:
    return OpenVinoModel(exported("openvino-fp16").path)


@pytest.fixture(scope="module")
def expected(half_model: Model, prompts: list[list[int]]) -> list[np.ndarray]:
    return torch_logits(half_model.path, prompts)


def test_logits_equal_transformers_at_every_prompt_length(
    graph: OpenVinoModel, prompts: list[list[int]], expected: list[np.ndarray]
) -> None:
    for ids, logits in zip(prompts, expected, strict=True):
        np.testing.assert_allclose(graph.whole(ids), logits, atol=EXACT, rtol=0, err_msg=f"{len(ids)} tokens")


def test_a_left_padded_batch_answers_as_each_prompt_alone(
    graph: OpenVinoModel, prompts: list[list[int]], expected: list[np.ndarray]
) -> None:
    chosen = [4, 9, 14, 20]
    longest = max(len(prompts[index]) for index in chosen)
    ids = np.zeros((len(chosen), longest), np.int64)
    mask = np.zeros_like(ids)
    for row, index in enumerate(chosen):
        ids[row, longest - len(prompts[index]) :] = prompts[index]
        mask[row, longest - len(prompts[index]) :] = 1
    graph.start()
    together = graph.step(ids, mask, np.clip(mask.cumsum(1) - 1, 0, None))
    for row, index in enumerate(chosen):
        alone = expected[index]
        np.testing.assert_allclose(together[row, -len(alone) :], alone, atol=EXACT, rtol=0)


@pytest.mark.parametrize("first", [1, 7, 40])
def test_token_by_token_with_the_cache_equals_reading_all_at_once(
    graph: OpenVinoModel, prompts: list[list[int]], expected: list[np.ndarray], first: int
) -> None:
    ids, logits = prompts[15], expected[15]
    graph.start()
    pieces = [graph.step([ids[:first]])[0]]
    for end in range(first + 1, len(ids) + 1):
        mask = np.ones((1, end), np.int64)
        pieces.append(graph.step([ids[end - 1 : end]], mask, [[end - 1]])[0])
    np.testing.assert_allclose(np.concatenate(pieces), logits, atol=EXACT, rtol=0)


def test_beam_idx_moves_the_caches_of_a_batch(graph: OpenVinoModel, prompts: list[list[int]]) -> None:
    left, right = prompts[9][:20], prompts[10][:20]
    graph.start()
    graph.step([left, right])
    following, mask, positions = [[5], [5]], np.ones((2, 21), np.int64), [[20], [20]]
    swapped = graph.step(following, mask, positions, beam=[1, 0])
    np.testing.assert_allclose(swapped[0, 0], graph.whole([*right, 5])[-1], atol=EXACT, rtol=0)
    np.testing.assert_allclose(swapped[1, 0], graph.whole([*left, 5])[-1], atol=EXACT, rtol=0)


def _generated_by_transformers(folder: Path, prompts: list[list[int]], new: int) -> list[list[int]]:
    import torch

    from vivace.models import load_causal_lm

    model = load_causal_lm(folder)
    answers = []
    for ids in prompts:
        made = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids)), max_new_tokens=new, do_sample=False
        )
        answers.append(made[0, len(ids) :].tolist())
    return answers


def _generated_by_openvino(folder: Path, prompts: list[list[int]], new: int) -> list[list[int]]:
    import openvino as ov
    import openvino_genai as genai

    scheduler = genai.SchedulerConfig()
    scheduler.cache_size, scheduler.enable_prefix_caching = 1, True
    pipeline = genai.ContinuousBatchingPipeline(folder, scheduler, "CPU", {"KV_CACHE_PRECISION": "f32"})
    settings = genai.GenerationConfig()
    settings.max_new_tokens, settings.stop_token_ids = new, {2}
    handles = [
        pipeline.add_request(number, ov.Tensor(np.array([ids], np.int64)), settings)
        for number, ids in enumerate(prompts)
    ]
    while pipeline.has_non_finished_requests():
        pipeline.step()
    return [list(handle.read_all()[0].generated_ids) for handle in handles]


def test_greedy_tokens_all_at_once_equal_transformers_one_by_one(
    exported: Exported, half_model: Model, prompts: list[list[int]]
) -> None:
    ours = _generated_by_openvino(exported("openvino-fp16").path, prompts, 32)
    theirs = _generated_by_transformers(half_model.path, prompts, 32)
    assert sum(map(len, theirs)) > 400  # the comparison is about something
    assert ours == theirs


# The tiny model's weights are noise, which 4 bits hold badly: a trained model loses far less (docs/compress.md).
@pytest.mark.parametrize(("kind", "bound"), [("openvino-int8", 0.15), ("openvino-int4", 1.5)])
def test_compressed_weights_keep_the_logprobs_within_a_bound(
    exported: Exported, prompts: list[list[int]], expected: list[np.ndarray], kind: str, bound: float
) -> None:
    assert _mean_logprob_difference(exported(kind), prompts, expected) < bound


def test_int8_answers_as_transformers_with_every_row_rounded_to_256_steps(
    exported: Exported, half_model: Model, prompts: list[list[int]], tmp_path: Path
) -> None:
    folder = tmp_path / "rounded"
    shutil.copytree(half_model.path, folder)
    weights = load_file(folder / "model.safetensors")
    rounded = {name: _rounded(value) if value.ndim == 2 else value for name, value in weights.items()}
    save_file(rounded, folder / "model.safetensors", metadata={"format": "pt"})
    difference = _mean_logprob_difference(exported("openvino-int8"), prompts, torch_logits(folder, prompts))
    # A hundredth of what the rounding itself changes; what is left are scales kept in fp16.
    assert difference < 0.02


def _rounded(weight: np.ndarray) -> np.ndarray:
    """Round each output channel to 256 even steps between its extremes."""
    low, high = weight.min(1, keepdims=True), weight.max(1, keepdims=True)
    scale = (high - low) / 255
    zero = np.round(-low / scale)
    return ((np.clip(np.round(weight / scale) + zero, 0, 255) - zero) * scale).astype(np.float32)


def _mean_logprob_difference(model: Model, prompts: list[list[int]], expected: list[np.ndarray]) -> float:
    compressed = OpenVinoModel(model.path)
    differences = [
        token_logprobs(compressed.whole(ids), ids) - token_logprobs(logits, ids)
        for ids, logits in zip(prompts, expected, strict=True)
        if len(ids) > 1
    ]
    return float(np.abs(np.concatenate(differences)).mean())


@pytest.mark.parametrize(
    ("kind", "weights", "bits"),
    [("openvino-int8", "int8", 14), ("openvino-int4", "int4", 14), ("openvino-fp16", "fp16", 22)],
)
def test_an_export_is_a_folder_others_can_open(
    exported: Exported, half_model: Model, kind: str, weights: str, bits: float
) -> None:
    model = exported(kind)
    assert (model.format, model.weights, model.license) == ("openvino", weights, "Apache-2.0")
    found = identify(model.path)
    assert found.format == "openvino"
    ours, theirs = ChatTokenizer.open(model.path), ChatTokenizer.open(half_model.path)
    messages = [Message("user", "Where is my order?")]
    assert ours.encode_chat(messages) == theirs.encode_chat(messages)
    assert ours.eos_ids == theirs.eos_ids == {2}
    assert ours.context_length == theirs.context_length
    assert json.loads((model.path / "generation_config.json").read_bytes())["eos_token_id"] == [2]
    # Scales and the graph's text weigh a lot beside a hundred thousand weights.
    assert size_facts(half_model, model)["bits_per_weight"] < 8 * bits


def test_an_export_names_no_place_on_this_machine(exported: Exported, half_model: Model) -> None:
    folder = exported("openvino-int8").path
    for path in folder.iterdir():
        content = path.read_bytes()
        for place in (str(half_model.path), str(folder.parent), str(Path.home())):
            assert place.encode() not in content, f"{path.name} names {place}"


def test_the_same_model_exports_to_the_same_bytes(exported: Exported, half_model: Model, tmp_path: Path) -> None:
    again = export(half_model, "openvino-int8", tmp_path / "again", SilentProgress())
    assert folder_digest(again.path) == folder_digest(exported("openvino-int8").path)


EXPORTER = """
import sys
from pathlib import Path
from vivace.compress import export
from vivace.domain import Model, SilentProgress
export(Model("tiny", Path(sys.argv[1]), "hf", "fp32"), "openvino-fp16", Path(sys.argv[2]), SilentProgress())
assert not {"torch", "transformers", "openvino", "nncf"} & set(sys.modules), "the exporting process holds its libraries"
"""


def _exporting(half_model: Model, out: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", EXPORTER, str(half_model.path), str(out)], env={**os.environ, "PYTHONPATH": "src"}
    )


def test_the_heavy_libraries_live_in_another_process(half_model: Model, tmp_path: Path) -> None:
    assert _exporting(half_model, tmp_path / "out").wait(120) == 0


def test_a_killed_export_leaves_neither_a_folder_nor_a_process(half_model: Model, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = _exporting(half_model, out)
    deadline = time.monotonic() + 60
    children: list[psutil.Process] = []
    while not children and time.monotonic() < deadline:
        time.sleep(0.05)
        children = psutil.Process(process.pid).children()
    time.sleep(1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert children
    assert psutil.wait_procs(children, timeout=5)[1] == []
    assert not out.exists()
    # What was left aside does not stand in the way of the next.
    export(half_model, "openvino-fp16", out, SilentProgress())
    assert (out / "openvino_model.xml").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
