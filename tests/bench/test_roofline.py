"""What the machine could do at best, and how near candidates come."""

import json
from pathlib import Path

import msgspec
import pytest

from vivace.bench import roofline as room
from vivace.bench.load import Sample
from vivace.bench.roofline import Roofline, nearness, roofline, weights_of
from vivace.domain import Model

ROOF = Roofline("test", 2, 20.0, 15.0, 100.0, 60.0, 0.0, "2026-01-01T00:00:00+00:00")


def sample(ttft_ms: float, tpot_ms: float, prompt: int = 100, cached: int = 0) -> Sample:
    first = ttft_ms / 1e3
    return Sample("r", 0.0, 0.0, first + 9 * tpot_ms / 1e3, first, prompt, 10, cached)


def near(samples: list[Sample], at_once: int) -> room.Nearness:
    return nearness("m", ROOF, weight_bytes=100_000_000, parameters=100_000_000, samples=samples, at_once=at_once)


def test_decoding_alone_is_bound_by_memory() -> None:
    found = near([sample(100, 10)], 1)
    assert found.decode_gb_per_s == pytest.approx(10)  # 0.1 GB a hundred times a second
    assert found.decode_fraction == pytest.approx(0.5)
    assert found.decode_compute_fraction == pytest.approx(100 * 0.2 / 100)
    assert found.bound == "memory bandwidth"


def test_many_answers_share_the_weights_and_are_bound_by_arithmetic() -> None:
    found = near([sample(100, 10)], 8)
    assert found.decode_gb_per_s == pytest.approx(10)  # read once for all
    assert found.decode_compute_fraction == pytest.approx(8 * 100 * 0.2 / 100)
    assert found.bound == "arithmetic"


def test_reading_a_prompt_is_judged_by_the_fastest_and_without_what_was_cached() -> None:
    found = near([sample(100, 10), sample(500, 10), sample(50, 10, prompt=100, cached=90)], 1)
    assert found.prefill_gflop_per_s == pytest.approx(1000 * 0.2)  # 100 tokens in 0.1 s
    assert near([sample(100, 10, prompt=100, cached=100)], 1).prefill_gflop_per_s == 0


def test_weights_are_counted_as_a_token_needs_them(tmp_path: Path) -> None:
    config = {
        "hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 1, "intermediate_size": 16,
        "num_hidden_layers": 3, "vocab_size": 100, "tie_word_embeddings": True,
    }  # fmt: skip
    layers = 3 * (2 * 8 * 8 + 2 * 8 * 4 + 3 * 8 * 16)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "openvino_model.bin").write_bytes(b"x" * 4000)
    (tmp_path / "openvino_tokenizer.bin").write_bytes(b"x" * 999)
    model = Model("m", tmp_path, "openvino", "int8")
    assert weights_of(model) == (4000, layers + 800)
    # A table of input embeddings of its own is on the disk, and hardly read.
    (tmp_path / "config.json").write_text(json.dumps(config | {"tie_word_embeddings": False}))
    found = weights_of(model)
    assert found is not None
    assert found[0] == round(4000 * (layers + 800) / (layers + 1600))


def test_the_real_count_of_a_model_is_met(tiny_model: Path) -> None:
    from vivace.models import describe

    found = weights_of(Model("tiny", tiny_model, "hf", "fp32"))
    assert found is not None
    known = describe(tiny_model).parameters
    assert known is not None
    assert found[1] == pytest.approx(known, rel=0.01)


def test_a_model_that_does_not_say_is_left_out(tmp_path: Path) -> None:
    assert weights_of(Model("m", tmp_path, "openvino", "int8")) is None


@pytest.mark.slow
def test_a_machine_is_measured_once_and_remembered(tmp_path: Path) -> None:
    (tmp_path / "machines").mkdir()
    first = roofline(tmp_path)
    assert 0.1 < first.triad_gb_per_s < 5000
    assert 0.1 < first.read_gb_per_s < 5000
    assert 0.1 < first.gflop_per_s_one_thread <= first.gflop_per_s
    (path,) = (tmp_path / "machines").iterdir()
    marked = msgspec.structs.replace(first, processor="remembered", foreign_cpu_fraction=0.0)
    path.write_bytes(msgspec.json.encode(marked))
    assert roofline(tmp_path) == marked
    path.write_text("torn")
    assert roofline(tmp_path).processor != "remembered"
