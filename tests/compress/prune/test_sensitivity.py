"""The table of levers says what pruning by each of them alone would cost and save."""

from pathlib import Path

import pytest

from tests.compress.prune.material import make_model, write_dataset
from vivace.compress.prune.costs import Sensitivity, to_json
from vivace.compress.prune.pruning import prune
from vivace.compress.prune.sensitivity import sensitivity
from vivace.config.prune import PruneSettings
from vivace.domain import Model, SilentProgress


@pytest.mark.parametrize("family", ["llama", "phi3"])
def test_each_row_is_what_pruning_so_does(family: str, tmp_path: Path, tiny_model: Path) -> None:
    folder, dataset = make_model(tmp_path / family, tiny_model, family), write_dataset(tmp_path / "dataset")
    settings = PruneSettings(examples=10, held_out=12)
    rows = sensitivity(
        folder, dataset, settings, system="Be kind.", max_length=256, shares=(0.75, 0.5), sparsities=("0.5", "2:4")
    )
    assert [(row.lever, row.amount) for row in rows] == [
        ("layers", 0.75), ("layers", 0.5), ("channels", 0.6667), ("heads", 0.75), ("heads", 0.5),
        ("weights", 0.5), ("weights", 0.5),
    ]  # fmt: skip
    assert to_json(rows).count(b'"lever"') == 7
    checks: list[tuple[Sensitivity, dict[str, object]]] = [
        (rows[1], {"layers": 0.5}),
        (rows[2], {"channels": 0.67}),
        (rows[4], {"heads": 0.5}),
        (rows[6], {"pattern": "2:4"}),
    ]
    for row, change in checks:
        facts = prune(
            Model("m", folder, "hf", "fp32"),
            dataset,
            tmp_path / "out",
            settings.model_copy(update={"correct": False, **change}),
            system="Be kind.",
            max_length=256,
            progress=SilentProgress(),
        )
        assert row.loss == pytest.approx(facts["loss"], rel=1e-4), row
        assert list(row.interval) == pytest.approx(facts["interval"], abs=2e-3)
        assert row.parameters == facts["parameters"]
        assert row.saved == pytest.approx(1 - facts["parameters"] / facts["parameters_before"], abs=1e-4)
