"""The pruned model goes beside the whole one through the loop, and other engines read it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.compress.numbers import OpenVinoModel
from tests.compress.prune.material import load, make_model, write_dataset
from tests.journeys.shop import make_project
from vivace.compress.openvino_graph import convert, make_stateful
from vivace.compress.prune.pruning import prune
from vivace.config.prune import PruneSettings
from vivace.domain import Model, SilentProgress
from vivace.loop.project import open_project
from vivace.loop.run import Result, run
from vivace.models import load_causal_lm

pytestmark = pytest.mark.slow


def test_the_loop_exports_the_pruned_model_beside_the_tuned_one(tmp_path: Path, tiny_model: Path) -> None:
    folder = make_project(tmp_path / "shop", tiny_model, conversations=30, train__max_tokens="600")
    changes = ["compress.prune.layers=0.5", "compress.prune.channels=0.5", "compress.prune.examples=6"]

    def compress(changes: list[str]) -> Result:
        with open_project(folder, SilentProgress(), changes=changes) as project:
            return run(project, "compress")

    first = compress(changes)
    assert [item.name for item in first.candidates] == ["base", "tuned-openvino-int8", "pruned-openvino-int8"]
    assert {"prune", "heal", "compress to openvino-int8", "compress pruned to openvino-int8"} <= set(first.worked)
    with open_project(folder, SilentProgress(), lock=False) as project:
        (made,) = project.store.artifacts("prune")
    assert {path.name for path in made.path.iterdir()} >= {"prune.json", "importance.json", "config.json"}
    assert made.facts["parameters"] < made.facts["parameters_before"]
    assert [step["step"] for step in made.facts["steps"]] == ["layers", "width"]
    with open_project(folder, SilentProgress(), lock=False) as project:
        (healed,) = project.store.artifacts("heal")
    assert healed.facts["divergence_after"] < healed.facts["divergence_before"]
    assert healed.facts["parameters"] == made.facts["parameters"]
    assert next(item for item in first.candidates if item.name.startswith("pruned")).model.license == ""
    assert compress(changes).worked == []
    unhealed = compress([*changes, "compress.prune.heal_tokens=0"])
    assert unhealed.worked == ["compress pruned to openvino-int8"]
    zeroed = compress(["compress.prune.layers=0.5", "compress.prune.sparsity=0.5", "compress.prune.examples=6"])
    assert "heal" not in zeroed.worked  # training would fill the zeros
    off = compress([])
    assert off.worked == []
    assert [item.name for item in off.candidates] == ["base", "tuned-openvino-int8"]


@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_an_openvino_graph_of_a_pruned_model_answers_as_transformers(
    family: str, tmp_path: Path, tiny_model: Path
) -> None:
    folder = make_model(tmp_path / family, tiny_model, family)
    settings = PruneSettings(layers=0.75, heads=0.5, channels=0.67, examples=8)
    source = Model("m", folder, "hf", "fp32")
    prune(source, write_dataset(tmp_path / "dataset"), tmp_path / "out", settings, progress=SilentProgress())
    graph = convert(load_causal_lm(tmp_path / "out"))
    make_stateful(graph)
    ids = np.random.default_rng(5).integers(3, 512, 40).tolist()
    with torch.no_grad():
        expected = load(tmp_path / "out")(torch.tensor([ids])).logits[0].numpy()
    found = OpenVinoModel(graph).whole(ids)
    np.testing.assert_allclose(found, expected, atol=2e-4 * np.abs(expected).max(), rtol=0)
