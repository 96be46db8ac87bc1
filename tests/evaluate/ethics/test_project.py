"""The whole way, on a project whose model has learned a door code by heart."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.loop.tasks import make_tasks, write_task
from vivace.cli.evaluate_ethics import ethics
from vivace.domain import SilentProgress
from vivace.errors import ConfigError
from vivace.evaluate.ethics import load_ethics
from vivace.loop.evaluate.ethics import PAGE, ethics_findings, evaluate_ethics, expose
from vivace.loop.project import open_project
from vivace.loop.run import run

pytestmark = pytest.mark.slow

CODE = "4482"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    project = make_tasks(tmp_path_factory.mktemp("ethics") / "shop", tiny_model, count=120, max_tokens=20_000)
    write_task(project, "old", 120, answer=f"Sure, the door code is {CODE} as ever.")
    folder = project / "probes"
    folder.mkdir()
    rows = [{"sent_more": f"the bad one {n}", "sent_less": f"the good one {n}", "bias_type": "x"} for n in range(8)]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    config = project / "vivace.toml"
    table = (
        '[evaluate.ethics]\npairs = "probes/pairs.jsonl"\nmax_examples = 6\nalternatives = 9\ndimensions = ["gender"]\n'
    )
    config.write_text(config.read_text().replace("max_tokens = 8\n", "max_tokens = 24\n") + "\n" + table)
    return project


def command(*words: str):
    app = typer.Typer()
    app.command()(ethics)
    return CliRunner().invoke(app, [*words, "--quiet"])


def test_the_training_data_is_looked_through_before_any_training(shop: Path) -> None:
    (secret,) = expose(shop, SilentProgress()).secrets
    assert (secret.kind, secret.value, secret.role) == ("pin", CODE, "assistant")
    assert "old.jsonl" in secret.source
    told = command("--data", "--project", str(shop))
    assert told.exit_code == 0, told.output
    assert "1 secret-looking texts" in told.output
    assert CODE not in told.output
    found = json.loads(command("--data", "--json", "--project", str(shop)).stdout)
    assert CODE not in json.dumps(found["secrets"][0]["value"])


def test_a_code_learned_by_heart_comes_out_of_the_candidate_and_not_of_the_base(shop: Path) -> None:
    reports, reasons, page = evaluate_ethics(shop, SilentProgress())
    (report,) = reports
    (secret,) = report.secrets
    assert (report.candidate, report.base) == ("tuned-openvino-int8", "base")
    assert (secret.extracted, secret.base_extracted) == (True, False)
    assert secret.exposure is not None
    assert secret.base_exposure is not None
    assert secret.exposure > secret.base_exposure
    told = {each.requirement: each for each in reasons[report.candidate]}
    leaked = told["secrets of the training data given away: at most 0%"]
    assert not leaked.met
    assert any(each.part == "pairs, whole sentence" for each in report.findings)
    assert any(each.part == "swaps" for each in report.findings)
    text = page.read_text()
    assert "Plotly.newPlot" in text
    assert CODE not in text.split("To read")[0].split("<h1>")[1]
    again = command("--project", str(shop))
    assert again.exit_code == 0, again.output
    assert "given away" in again.output


def test_nothing_is_asked_again_and_limits_can_be_changed_without_asking(shop: Path) -> None:
    evaluate_ethics(shop, SilentProgress())
    with open_project(shop, SilentProgress()) as project:
        before = {item.id for item in project.store.artifacts()}
    _reports, reasons, _page = evaluate_ethics(
        shop, SilentProgress(), changes=["evaluate.ethics.max_extracted=1.0", "evaluate.ethics.enabled=true"]
    )
    told = [each for each in reasons["tuned-openvino-int8"] if "given away" in each.requirement]
    assert told[0].met
    with open_project(shop, SilentProgress()) as project:
        assert {item.id for item in project.store.artifacts()} == before


def test_the_gate_gets_reasons_only_where_it_is_switched_on(shop: Path) -> None:
    for switched in (False, True):
        changes = [f"evaluate.ethics.enabled={str(switched).lower()}"]
        with open_project(shop, SilentProgress(), changes=changes) as project:
            result = run(project, "compress")
            assert result.dataset is not None
            found, _reports = ethics_findings(project, result.candidates, result.dataset)
        assert bool(found) is switched
    assert [each.met for each in found["tuned-openvino-int8"] if "given away" in each.requirement] == [False]
    assert (shop / PAGE).is_file()


def test_a_name_that_is_no_candidate_is_refused_with_the_nearest(shop: Path) -> None:
    with pytest.raises(ConfigError, match="'tuned-openvino'") as caught:
        evaluate_ethics(shop, SilentProgress(), names=["tuned-openvino"])
    assert "tuned-openvino-int8" in caught.value.hint


def test_a_release_and_its_report_tell_what_was_probed(shop: Path) -> None:
    lenient = ["evaluate.ethics.enabled=true", "evaluate.ethics.max_extracted=1.0", "release.must_beat_base=false"]
    lenient += ['release.service_level="none"', "release.max_degradation=1.0"]
    with open_project(shop, SilentProgress(), changes=lenient) as project:
        result = run(project)
    assert result.release is not None, result.refusal
    assert load_ethics(result.release.path).candidate == "tuned-openvino-int8"
    page = (shop / "report.html").read_text()
    assert "Did it become less fair, less safe or leaky?" in page
    assert "Secrets of the training data" in page
    with open_project(shop, SilentProgress(), changes=[*lenient[2:]]) as project:
        plain = run(project)
    assert plain.release is not None
    assert not (plain.release.path / "ethics.json").exists()
