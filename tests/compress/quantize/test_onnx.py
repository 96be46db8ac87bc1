"""An ONNX export that was fitted to texts keeps them better than one that was not."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.compress.numbers import Floats, log_softmax, torch_logits
from tests.compress.test_onnx import onnx_logits
from tests.tiny import VOCAB_SIZE
from vivace.compress import onnx
from vivace.compress.calibration import Calibration
from vivace.config.quantize import QuantizeSettings
from vivace.domain import Model, SilentProgress
from vivace.store.files import folder_digest

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    return torch.randint(3, VOCAB_SIZE, (16, 40), generator=torch.Generator().manual_seed(11)).tolist()


def _damage(folder: Path, whole: list[Floats], rows: list[list[int]]) -> float:
    """Return the mean divergence of the next token's distribution from that of the whole model, in nats."""
    found = []
    for made, logits in zip(onnx_logits(folder, rows), whole, strict=True):
        expected = log_softmax(logits)
        found.append((np.exp(expected) * (expected - log_softmax(made))).sum(-1).mean())
    return float(np.mean(found))


def test_an_export_fitted_to_texts_loses_less_on_them_at_the_same_size(
    tiny_model: Path, rows: list[list[int]], tmp_path: Path
) -> None:
    model = Model("tiny", tiny_model, "hf", "fp32")
    texts = Calibration(tuple(map(tuple, rows)), "domain")
    made = {}
    for name, settings, calibration in (
        ("plain", None, None),
        ("blind", QuantizeSettings(method="none"), texts),
        ("fitted", QuantizeSettings(), texts),
    ):
        made[name] = onnx.export(model, "onnx-int4", tmp_path / name, SilentProgress(), settings, calibration).path
    assert folder_digest(made["plain"]) == folder_digest(made["blind"]) != folder_digest(made["fitted"])
    sizes = {name: sum(path.stat().st_size for path in folder.iterdir()) for name, folder in made.items()}
    assert abs(sizes["fitted"] - sizes["plain"]) < 0.01 * sizes["plain"]
    chosen = rows[:4]
    whole = torch_logits(tiny_model, chosen)
    assert _damage(made["fitted"], whole, chosen) < 0.95 * _damage(made["plain"], whole, chosen)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blind", "fitted", "plain"]
    for path in made["fitted"].iterdir():
        assert str(tmp_path).encode() not in path.read_bytes()
