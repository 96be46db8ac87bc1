"""What cannot fit is not begun, and what is said names what would."""

from pathlib import Path

import pytest

from vivace.config.providers import ProviderSettings
from vivace.domain import Model
from vivace.loop.limits import (
    Limits,
    Need,
    Shape,
    cannot_fit,
    cost_usd_per_1000,
    need_of,
    need_of_model,
    shape_of,
    too_dear,
)

SMOLLM2 = Shape(134_515_008, 49_152 * 576, 49_152, 2 * 30 * 3 * 64)


@pytest.mark.parametrize(
    ("kind", "disk_mb", "memory_mb"),
    [
        # Files and peak memory after 8 requests at once, one thread, November 2026: see docs/engines.md.
        ("openvino-int8", 141.5, 596),
        ("onnx-int4", 90.0, 386),
        ("gguf-q4_0", 95.3, 627),
    ],
)
def test_estimates_are_near_what_was_measured_of_the_real_model(kind: str, disk_mb: float, memory_mb: float) -> None:
    need = need_of(kind, SMOLLM2)
    assert need.disk_bytes / 1e6 == pytest.approx(disk_mb, rel=0.1)
    assert need.memory_bytes / 1e6 == pytest.approx(memory_mb, rel=0.2)


def test_what_does_not_fit_is_named_with_the_largest_that_does() -> None:
    needs = [Need("int8", 310_000_000, 1), Need("int4", 220_000_000, 1), Need("q4", 100_000_000, 1)]
    assert cannot_fit(needs, Limits(memory_bytes=250_000_000)) == {
        "int8": "int8 is not begun: it needs about 310 MB of memory, the limit is 250 MB. "
        "int4 (about 220 MB) would fit."
    }
    assert cannot_fit(needs, Limits()) == {}
    assert cannot_fit(needs, Limits(memory_bytes=310_000_000)) == {}


def test_where_nothing_fits_the_smallest_is_named() -> None:
    refused = cannot_fit([Need("a", 30_000_000, 1), Need("b", 20_000_000, 1)], Limits(memory_bytes=10_000_000))
    assert set(refused) == {"a", "b"}
    assert "Nothing would fit: the smallest, b, needs about 20 MB." in refused["a"]


def test_disk_is_a_limit_of_its_own_and_measured_figures_are_not_called_estimates() -> None:
    assert (
        "about 9 MB on disk, the limit is 5 MB"
        in cannot_fit([Need("a", 1, 9_000_000)], Limits(disk_bytes=5_000_000))["a"]
    )
    seen = cannot_fit([Need("a", 30_000_000, 1, measured=True)], Limits(memory_bytes=10_000_000))["a"]
    assert "it needs 30 MB of memory" in seen


def test_the_shape_of_a_folder_is_read_from_its_files(tiny_model: Path) -> None:
    shape = shape_of(tiny_model)
    assert shape is not None
    assert (shape.vocabulary, shape.table, shape.cache_values_per_token) == (512, 512 * 64, 2 * 2 * 2 * 16)
    need = need_of_model("tiny", Model("tiny", tiny_model, "hf", "fp32"), "transformers")
    assert need.memory_bytes > 4 * shape.parameters
    assert need.disk_bytes < 1_000_000


def test_a_provider_that_costs_too_much_is_not_begun() -> None:
    priced = ProviderSettings(model="m", price_per_million_input_tokens=10, price_per_million_output_tokens=30)
    cost = cost_usd_per_1000(priced, prompt_tokens=200, answer_tokens=100)
    assert cost == pytest.approx(5.0)
    assert too_dear("gpt", cost, Limits(cost_usd_per_1000=2.0)) == (
        "gpt is not begun: a thousand answers cost about 5.00 USD, the limit is 2 USD."
    )
    assert too_dear("gpt", cost, Limits(cost_usd_per_1000=5.0)) == ""
    assert too_dear("gpt", cost_usd_per_1000(ProviderSettings(model="m"), 1, 1), Limits(cost_usd_per_1000=0.1)) == ""
