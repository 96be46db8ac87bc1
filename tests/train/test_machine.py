"""What the machine can do is asked before training starts."""

from pathlib import Path

import pytest

from vivace.config.train import TrainSettings
from vivace.errors import ConfigError, ResourceError
from vivace.models import identify, load_causal_lm
from vivace.train import machine


def test_auto_means_bfloat16_only_where_it_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cpu_has_bfloat16", lambda: False)
    assert machine.arithmetic("auto", "cpu") == "float32"
    assert machine.arithmetic("bfloat16", "cpu") == "bfloat16"
    monkeypatch.setattr(machine, "_cpu_has_bfloat16", lambda: True)
    assert machine.arithmetic("auto", "cpu") == "bfloat16"
    assert machine.arithmetic("float32", "cpu") == "float32"
    monkeypatch.setattr(machine, "_cuda_has_bfloat16", lambda: False)
    assert machine.arithmetic("auto", "cuda") == "float32"
    with pytest.raises(ConfigError):
        machine.arithmetic("bfloat16", "cuda")


def test_the_estimate_grows_with_the_batch_and_with_what_is_trained(tiny_model: Path) -> None:
    from vivace.train.adapters import prepare_weights

    base = identify(tiny_model)
    lora = prepare_weights(load_causal_lm(tiny_model), base, TrainSettings())
    full = prepare_weights(load_causal_lm(tiny_model), base, TrainSettings(method="full"))
    small = machine.memory_needed(lora, (1, 64), 1.0)
    assert small < machine.memory_needed(lora, (8, 512), 0.5) < machine.memory_needed(lora, (8, 512), 1.0)
    assert small < machine.memory_needed(full, (1, 64), 1.0)


def test_what_does_not_fit_is_refused_with_the_batch_that_is_too_big(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "memory_free", lambda _on: 10**9)
    machine.check_memory(10**9, "cpu", (4, 512), 1000)
    with pytest.raises(ResourceError, match=r"batches of 4 x 512 tokens needs about 2\.0 GB"):
        machine.check_memory(2 * 10**9, "cpu", (4, 512), 1000)


def test_the_peak_is_in_bytes() -> None:
    assert 10**7 < machine.peak_memory_bytes("cpu") < 10**12
