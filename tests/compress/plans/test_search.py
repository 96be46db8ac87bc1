"""A plan is found, measured step by step and told; what breaks is flagged, and a wrong scale fails the gate."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.journeys.shop import make_project, vivace
from vivace.compress import export
from vivace.compress.plans.goals import Goals, read_goals
from vivace.config.evaluate import EvaluateSettings
from vivace.config.prune import PruneSettings
from vivace.config.settings import CompressSettings
from vivace.domain import Candidate, Model, Objective, Scorecard, SilentProgress, Workspace
from vivace.evaluate import evaluate, load_report
from vivace.evaluate.probe import general_probe
from vivace.evaluate.retention import retention
from vivace.loop.compress import search
from vivace.loop.compress.report import find, measure_plans
from vivace.loop.project import open_project
from vivace.loop.run import run
from vivace.models import identify, load_causal_lm, save_model
from vivace.release import judge

pytestmark = pytest.mark.slow
CHANGES = [
    "compress.prune.examples=6",
    "compress.prune.layer_examples=4",
    "compress.prune.heal_tokens=300",
    "evaluate.max_tokens=12",
    "evaluate.resamples=200",
    "data.validation_fraction=0.3",
]


COMPRESS = CompressSettings(prune=PruneSettings(examples=6, layer_examples=4, heal_tokens=300))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    return make_project(
        tmp_path_factory.mktemp("plans") / "shop", tiny_model, conversations=40, train__max_tokens="1500"
    )


def test_a_plan_is_found_and_every_step_of_it_is_measured(shop: Path) -> None:
    goals = read_goals(["parameters<90K"], None, 0.01)  # a tiny model that was hardly trained keeps nothing for certain
    with open_project(shop, SilentProgress(), changes=CHANGES) as project:
        found, page = find(project, goals, tries=1)
        again, _page = find(project, goals, tries=1)
    assert found.chosen is not None
    assert [row.step for row in found.measured.rows][:2] == ["tuned", "quantize"]
    reference = found.measured.rows[0]
    assert all(kept.change == 0 for kept in reference.domain.whole)
    assert found.measured.today == "tuned-openvino-int8"
    assert found.measured.rows[1].pace.decode_ratio.value == pytest.approx(1.0)  # speed is compared with what is served
    (made,) = found.tries
    assert made.row.name == found.measured.rows[-1].name
    assert again.measured == found.measured  # nothing is measured twice
    text = page.read_text()
    for row in found.measured.rows:
        assert row.name in text
    assert "Slices that break" in text


def test_goals_out_of_reach_are_told_with_what_is_within(shop: Path) -> None:
    with open_project(shop, SilentProgress(), changes=CHANGES) as project:
        found, _page = find(project, Goals(max_size_bytes=1000), tries=2)
    assert found.chosen is None
    assert found.plan == ""
    assert "the smallest would have" in found.ended


def test_a_found_plan_can_be_put_into_the_file(shop: Path, tmp_path: Path) -> None:
    plan = search.plan_of(search.Draft(0.5, 0.75, 0.25, "openvino-int8"), "half", COMPRESS)
    assert plan.prune.heal_tokens == 300  # as the project heals
    lines = search.plan_toml(plan)
    assert "sparsity" not in lines  # what is as by default is left out
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in shop.iterdir():
        if path.is_file():
            (copy / path.name).write_bytes(path.read_bytes())
    (copy / "vivace.toml").write_text((shop / "vivace.toml").read_text() + "\n" + lines)
    with open_project(copy, SilentProgress(), changes=CHANGES) as project:
        result = run(project, "compress")
        (release,) = [item for item in result.candidates if item.name.startswith("half")]
        folders = [project.store.artifacts(stage)[0].path for stage in ("merge", "prune", "trim")]
        folders.append(project.store.artifacts("heal")[0].path / "model")
    for folder in folders:  # stock transformers reads what every step wrote
        model = AutoModelForCausalLM.from_pretrained(folder)
        ids = AutoTokenizer.from_pretrained(folder)("Where is my parcel?", return_tensors="pt").input_ids
        assert torch.isfinite(model(ids).logits).all()
        assert model(ids).logits.shape[-1] == model.config.vocab_size
    assert release.name == "half-openvino-int8"
    assert {"prune half", "heal half", "trim half", "compress half to openvino-int8"} <= set(result.worked)


def test_every_plan_of_the_file_is_measured(shop: Path) -> None:
    plan = '[{name = "thin", prune = {layers = 0.5, heal_tokens = 0, examples = 6}}]'
    with open_project(shop, SilentProgress(), changes=[*CHANGES, f"compress.plans={plan}"]) as project:
        measured, page = measure_plans(project)
    thin = next(row for row in measured.rows if row.plan == "thin" and row.step == "prune")
    assert thin.parameters < measured.rows[0].parameters
    assert thin.size_bytes < next(row for row in measured.rows if row.step == "quantize").size_bytes
    assert "thin-prune-openvino-int8" in page.read_text()


@pytest.mark.real
def test_a_slice_whose_layer_is_destroyed_is_flagged(real_model: Path, tmp_path: Path) -> None:
    """One of the first layers writes nothing any more: what the model could is gone, and the slices say so."""
    model = load_causal_lm(real_model)
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.zero_()
        model.model.layers[1].self_attn.o_proj.weight.zero_()
    save_model(model, real_model, tmp_path / "destroyed-model")
    export(identify(real_model), "openvino-int8", tmp_path / "whole", SilentProgress())
    export(identify(tmp_path / "destroyed-model"), "openvino-int8", tmp_path / "destroyed", SilentProgress())
    settings = EvaluateSettings(max_tokens=24, resamples=999)
    examine(tmp_path, "whole", settings)
    examine(tmp_path, "destroyed", settings)
    found = retention(load_report(tmp_path / "destroyed-out"), load_report(tmp_path / "whole-out"), settings)
    assert {part.field for part in found.broken} >= {"intent"}
    assert retention(load_report(tmp_path / "whole-out"), load_report(tmp_path / "whole-out"), settings).broken == ()


def examine(place: Path, name: str, settings: EvaluateSettings) -> Scorecard:
    """Ask the export in `place / name` the general questions."""
    item = Candidate(name=name, engine="openvino", model=Model(name, place / name, "openvino", "int8"))
    workspace = Workspace(place / f"{name}-out", place / f"{name}-scratch", SilentProgress())
    for folder in (workspace.out, workspace.scratch):
        folder.mkdir()
    evaluate(item, general_probe(), settings, workspace)
    return Scorecard(item, 1, load_report(workspace.out).scores, ())


@pytest.mark.real
def test_a_quantizer_with_a_wrong_scale_fails_the_gate(real_model: Path, tmp_path: Path) -> None:
    """Every fourth of an int8 export's scales is 60 % too large: the answers suffer, and the gate refuses it."""
    export(identify(real_model), "openvino-int8", tmp_path / "right", SilentProgress())
    shutil.copytree(tmp_path / "right", tmp_path / "wrong")
    spoil_scales(tmp_path / "wrong" / "openvino_model.xml")
    settings = EvaluateSettings(max_examples=24, max_tokens=24, resamples=400)
    cards = [examine(tmp_path, name, settings) for name in ("right", "wrong")]
    objective = Objective(service_level="none", max_degradation=0.05, must_beat_base=False)
    right, wrong = judge(cards, objective)
    assert right.accepted
    assert not wrong.accepted
    assert any("below the best candidate" in reason.requirement for reason in wrong.reasons if not reason.met)
    found = retention(load_report(tmp_path / "wrong-out"), load_report(tmp_path / "right-out"), settings)
    likely = found.of("bits_per_byte")
    assert likely is not None
    assert likely.interval.low > 0


def spoil_scales(path: Path) -> None:
    """Make every fourth scale of the compressed weights too large, as a quantizer with a wrong stride would."""
    core = openvino.Core()
    model = core.read_model(path)
    for node in model.get_ops():
        if node.get_type_name() == "Multiply":
            source = node.input_value(1).get_node()
            while source.get_type_name() == "Convert":
                source = source.input_value(0).get_node()
            if source.get_type_name() == "Constant" and source.data.ndim == 2 and source.data.size > 64:
                changed = np.array(source.data)
                changed[::4] = changed[::4] * 1.6
                spoiled = openvino.opset13.constant(changed.astype(source.data.dtype))
                for reader in source.output(0).get_target_inputs():
                    reader.replace_source_output(spoiled.output(0))
    openvino.save_model(model, path.with_name("spoiled.xml"), compress_to_fp16=False)
    for suffix in (".xml", ".bin"):
        path.with_name("spoiled").with_suffix(suffix).replace(path.with_suffix(suffix))


def test_the_command_tells_goals_it_cannot_read(shop: Path) -> None:
    told = vivace("compress", str(shop), "--budget", "size<small", check=False)
    assert told.returncode != 0
    assert "size<60MB" in told.stderr


def test_options_of_a_search_without_a_goal_are_not_passed_over(shop: Path) -> None:
    told = vivace("compress", str(shop), "--quality", "0.9", check=False)
    assert told.returncode != 0
    assert "no goal is named" in told.stderr


def test_the_command_measures_and_prints_json(shop: Path) -> None:
    sets = [part for change in CHANGES for part in ("--set", change)]
    told = vivace("compress", str(shop), "--measure", "--json", "--quiet", *sets)
    rows: list[dict[str, Any]] = json.loads(told.stdout)["rows"]
    assert [row["step"] for row in rows] == ["tuned", "quantize"]
