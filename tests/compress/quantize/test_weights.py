"""Four bits in an OpenVINO graph keep what the texts need, and a quantizer that is wrong is seen."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from nncf.openvino.engine import OVNativeEngine
from torch.nn import Linear

from tests.compress.numbers import Floats, OpenVinoModel, log_softmax
from tests.compress.prune.material import load, make_model
from tests.compress.quantize.divergence import divergence
from tests.tiny import VOCAB_SIZE
from vivace.compress import openvino
from vivace.compress.calibration import Calibration
from vivace.compress.openvino_graph import convert, make_stateful
from vivace.compress.quantize.rounding import rounded
from vivace.compress.quantize.weights import Feeds, Plan, compress_int4, int4_share, read_plan
from vivace.config.quantize import QuantizeSettings
from vivace.domain import Model, SilentProgress
from vivace.store.files import folder_digest

pytestmark = pytest.mark.slow

Rows = tuple[tuple[int, ...], ...]


@pytest.fixture(scope="module")
def rows() -> Rows:
    random = np.random.default_rng(11)
    return tuple(tuple(random.integers(3, VOCAB_SIZE, length).tolist()) for length in (12, 30, 45, 20, 33, 17, 26, 40))


@pytest.fixture(scope="module")
def fresh(loud: Path) -> Callable[[], Any]:
    """Return a function that makes the graph of the loud model, not yet compressed."""

    def make() -> Any:
        graph = convert(load(loud))
        make_stateful(graph)
        return graph

    return make


def _quietly(_step: str, _share: float) -> None:
    pass


def _damage(graph: Any, whole: list[Floats], rows: Rows) -> float:
    """Return the mean divergence of the next token's distribution from that of the whole model, in nats."""
    compiled = OpenVinoModel(graph)
    found = []
    for ids, logits in zip(rows, whole, strict=True):
        expected, made = log_softmax(logits), log_softmax(compiled.whole(ids))
        found.append((np.exp(expected) * (expected - made)).sum(-1))
    return float(np.concatenate(found).mean())


@pytest.fixture(scope="module")
def whole(fresh: Callable[[], Any], rows: Rows) -> list[Floats]:
    compiled = OpenVinoModel(fresh())
    return [compiled.whole(ids) for ids in rows]


def test_looking_at_texts_saves_a_loud_channel(fresh: Callable[[], Any], whole: list[Floats], rows: Rows) -> None:
    blind = _damage(compress_int4(fresh(), Plan(ratio=1.0), _quietly), whole, rows)
    seeing = _damage(compress_int4(fresh(), Plan("awq_scale_estimation", ratio=1.0, rows=rows), _quietly), whole, rows)
    assert 0 < seeing < 0.9 * blind


@pytest.mark.parametrize("method", ["none", "awq", "scale_estimation", "gptq"])
def test_every_method_quantizes_and_tells_of_every_text(
    fresh: Callable[[], Any], whole: list[Floats], rows: Rows, method: Any
) -> None:
    told: list[tuple[str, float]] = []
    made = compress_int4(fresh(), Plan(method, ratio=0.6, rows=rows), lambda step, share: told.append((step, share)))
    read = [step for step, _ in told if step.startswith("reading text")]
    assert read == [f"reading text {number} of 8" for number in range(1, 9)]
    shares = [share for _, share in told]
    assert shares == sorted(shares)
    assert shares[-1] < 1
    assert 0 < _damage(made, whole, rows) < 1


def test_texts_do_not_see_each_other(fresh: Callable[[], Any], rows: Rows) -> None:
    # Were the caches not emptied between texts, the second of two equal ones would be read otherwise.
    engine = OVNativeEngine(fresh())
    first, second = (engine.infer(feed)["logits"].copy() for feed in Feeds((rows[0],) * 2, _quietly))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize(("ratio", "low", "high"), [(1.0, 0.999, 1.0), (0.5, 0.3, 0.501)])
def test_the_ratio_is_what_is_stored_in_four_bits(
    fresh: Callable[[], Any], loud: Path, ratio: float, low: float, high: float
) -> None:
    made = compress_int4(fresh(), Plan(ratio=ratio), _quietly)
    matrices = sum(part.weight.numel() for part in load(loud).model.layers.modules() if isinstance(part, Linear))
    embedding = 64 * VOCAB_SIZE  # in 8 bits always
    assert low <= int4_share(made) * (matrices + embedding) / matrices <= high


def test_a_plan_goes_through_a_file_as_it_is(rows: Rows) -> None:
    plan = Plan("gptq", 0.25, 64, rows)
    assert read_plan(plan.encode()) == plan


def _exported(loud: Path, out: Path, settings: QuantizeSettings | None, calibration: Calibration | None) -> Path:
    model = Model("loud", loud, "hf", "fp32")
    return openvino.export(model, "openvino-int4", out, SilentProgress(), settings, calibration).path


def test_an_export_looks_at_the_texts_and_gives_the_same_bytes_again(loud: Path, rows: Rows, tmp_path: Path) -> None:
    settings, texts = QuantizeSettings(), Calibration(rows, "domain")
    first = _exported(loud, tmp_path / "first", settings, texts)
    assert folder_digest(first) == folder_digest(_exported(loud, tmp_path / "second", settings, texts))
    blind = _exported(loud, tmp_path / "blind", settings, None)
    assert folder_digest(blind) != folder_digest(first)
    # Nothing to look at and the defaults: what it was before there were settings.
    assert folder_digest(blind) == folder_digest(_exported(loud, tmp_path / "plain", None, None))
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["blind", "first", "plain", "second"]
    assert divergence(loud, first, rows).mean > 0  # it opens


def test_a_quantizer_with_wrong_scales_is_seen(tiny_model: Path, rows: Rows, tmp_path: Path) -> None:
    whole = make_model(tmp_path / "whole", tiny_model, "llama", hidden_size=64)
    honest, wrong = _saved(whole, tmp_path / "honest", 1.0), _saved(whole, tmp_path / "wrong", 1.3)
    found, seen = divergence(whole, honest, rows), divergence(whole, wrong, rows)
    assert seen.interval.low > 1.5 * found.interval.high
    assert seen.agree < found.agree
    assert divergence(whole, whole, rows).mean == 0


def _saved(folder: Path, out: Path, factor: float) -> Path:
    """Write the model with its matrices rounded to four bits, every second row with a scale that is off by a factor."""
    shutil.copytree(folder, out)
    model = load(folder)
    with torch.no_grad():
        for part in model.model.layers.modules():
            if isinstance(part, Linear):
                part.weight.copy_(rounded(part.weight))
                part.weight[::2] *= factor
    model.save_pretrained(out)
    return out
