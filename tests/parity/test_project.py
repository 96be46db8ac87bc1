"""`vivace parity` on a project that was really trained: it passes, names a planted fault, and asks running servers."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.journeys.shop import make_project, vivace
from tests.serve.fakes import Served, serving
from vivace.chain import stack
from vivace.config.settings import ServeSettings
from vivace.domain import SilentProgress
from vivace.errors import EngineError
from vivace.loop.parity import parity_findings, parity_papers, prove_project, prove_server
from vivace.loop.project import open_project
from vivace.loop.run import run
from vivace.models import ChatTokenizer
from vivace.parity import load_parity
from vivace.parity.findings import REQUIREMENT, section
from vivace.parity.rendering import Door
from vivace.serve.app import create_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
QUICK = ("--set", "parity.conversations=8", "--set", "parity.awkward=10", "--set", "parity.scored=2")
CHANGES = ("parity.conversations=8", "parity.awkward=10", "parity.scored=2")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    folder = make_project(tmp_path_factory.mktemp("parity") / "shop", tiny_model)
    vivace("compress", str(folder), timeout=600)
    return folder


@pytest.fixture
def served(project: Path, tiny_model: Path) -> Iterator[Served]:
    """A server that renders as the project does, and answers what it likes."""
    tokenizer = ChatTokenizer.open(tiny_model)
    door = Door("served", tokenizer, tokenizer.context_length)
    rules = {"system": "You help the customers of a shop."}
    responder = stack(door, rules)  # type: ignore[arg-type]
    with serving(create_app(responder, door, ServeSettings(), model_name="shop", release_id="r")) as running:
        yield running


def test_a_trained_project_is_proved_once_from_training_to_http(project: Path) -> None:
    shown = vivace("parity", str(project), *QUICK, timeout=600)
    assert "trained → adapter → merged → tuned-openvino-int8 → tuned-openvino-int8 over HTTP" in shown.stdout
    assert "DIFFERS" not in shown.stdout
    again = vivace("parity", str(project), "--json", *QUICK)
    assert "parity tuned-openvino-int8: unchanged" in again.stderr
    told = json.loads(again.stdout)
    assert told["met"]
    checks = {(each["hop"], each["check"]) for each in told["reports"][0]["findings"]}
    for hop in ("adapter", "merged", "tuned-openvino-int8", "tuned-openvino-int8 over HTTP"):
        assert (hop, "token ids") in checks
    assert ("merged", "merged weights") in checks
    assert ("merged", "token ids, read by transformers") in checks
    assert ("tuned-openvino-int8", "log-probabilities") in checks
    assert ("tuned-openvino-int8 over HTTP", "greedy answers") in checks


def test_the_gate_gets_a_reason_and_the_release_a_paper(project: Path, tmp_path: Path) -> None:
    with open_project(project, SilentProgress(), changes=(*CHANGES, "parity.enabled=true")) as opened:
        result = run(opened, "compress")
        reasons, reports = parity_findings(opened, result)
        assert list(reasons) == ["tuned-openvino-int8"]  # the base was not trained
        (reason,) = reasons["tuned-openvino-int8"]
        assert (reason.requirement, reason.met) == (REQUIREMENT, True)
        (tmp_path / "parity.json").write_bytes(parity_papers(reports)["tuned-openvino-int8"]["parity.json"])
        assert load_parity(tmp_path) == reports["tuned-openvino-int8"]
        page = section(list(reports.values()))
        assert page is not None
        assert page["candidates"][0]["met"]
        off = opened.settings.parity.model_copy(update={"enabled": False})
        opened.settings = opened.settings.model_copy(update={"parity": off})
        assert parity_findings(opened, result) == ({}, {})


def test_an_export_whose_template_changed_is_refused_with_what_to_do(project: Path) -> None:
    export = _export_of(project)
    template = export / "chat_template.jinja"
    before = template.read_text()
    try:
        template.write_text(before.replace("assistant\n", "assistent\n"))  # as long as it was: the store trusts sizes
        shown = vivace("parity", str(project), *QUICK, "--set", "parity.seed=7", check=False, timeout=600)
    finally:
        template.write_text(before)
    assert shown.returncode == 8, shown.stderr
    assert "tuned-openvino-int8 does not answer as the trained model does." in shown.stderr
    assert "DIFFERS" in shown.stdout
    assert "chat_template.jinja" in shown.stdout
    # The adapter and the merged model are as they were.
    wrong = [line.split()[0] for line in shown.stdout.splitlines() if "DIFFERS" in line]
    assert set(wrong) == {"tuned-openvino-int8"}


def test_wrong_words_are_one_sentence(project: Path) -> None:
    for words, said, code in (
        (("--candidate", "tuned-openvino-int4"), "is no candidate that was trained here", 2),
        (("--candidate", "release"), "There is no release of today's candidates yet", 2),
        (("--model", "x"), "Name the server with --url", 2),
        (("--url", "http://127.0.0.1:9"), "cannot be read", 6),
        (("--set", "parity.bounds={int9 = 1.0}"), "int9", 2),
    ):
        shown = vivace("parity", str(project), *words, *QUICK, check=False)
        assert shown.returncode == code, shown.stderr
        assert said in shown.stderr


def test_a_running_server_is_held_against_the_training(project: Path, served: Served) -> None:
    report = prove_server(project, served.url, SilentProgress(), changes=CHANGES)
    checks = {each.check: each for each in report.findings}
    assert checks["prompt tokens"].met
    assert checks["requests"].met
    assert not checks["greedy answers"].met  # it says nothing at all
    assert not report.met


def test_a_server_without_the_projects_system_prompt_is_named(project: Path, tiny_model: Path) -> None:
    tokenizer = ChatTokenizer.open(tiny_model)
    door = Door("served", tokenizer, tokenizer.context_length)
    with serving(create_app(door, door, ServeSettings(), model_name="shop", release_id="r")) as running:
        report = prove_server(project, running.url, SilentProgress(), changes=CHANGES)
    finding = next(each for each in report.findings if each.check == "prompt tokens")
    assert finding.cause == "the system prompt is lost"
    with pytest.raises(EngineError):
        prove_server(project, running.url, SilentProgress(), changes=CHANGES)


def test_a_candidate_that_computes_otherwise_than_its_weights_explain_is_refused(project: Path) -> None:
    """A bound of its own that nothing can keep stands in for a wrong export."""
    (report,) = prove_project(
        project, SilentProgress(), changes=(*CHANGES, 'parity.bounds={"openvino-int8" = 0.000001}')
    )
    assert [each.check for each in report.broken] == ["log-probabilities"]
    told: Any = replace(report, findings=report.broken)
    assert "moved by more than these weights explain" in told.findings[0].cause


def test_a_run_releases_what_is_proved_with_its_proof_and_refuses_what_differs(project: Path) -> None:
    """The last one: from here on there is a release."""
    switched_on = ("--set", "parity.enabled=true", "--set", "bench.baseline=false")
    impossible = 'parity.bounds={"openvino-int8" = 0.000001}'
    refused = vivace("run", str(project), *QUICK, *switched_on, "--set", impossible, check=False, timeout=600)
    assert refused.returncode == 8, refused.stderr
    assert f"{REQUIREMENT} (" in refused.stderr
    assert "moved by more than these weights explain" in (project / "report.html").read_text()
    vivace("run", str(project), *QUICK, *switched_on, timeout=600)
    (paper,) = (project / ".vivace" / "artifacts" / "release").glob("*/files/parity.json")
    assert load_parity(paper.parent).met
    assert "Is what is served what was trained?" in (project / "report.html").read_text()
    again = vivace("run", str(project), *QUICK, *switched_on)
    assert "Nothing to do" in again.stdout + again.stderr


def _export_of(project: Path) -> Path:
    """Return the folder of the merged model's export."""
    made = [path.parent for path in (project / ".vivace" / "artifacts" / "model").glob("*/manifest.json")]
    told = {folder: json.loads((folder / "manifest.json").read_text()) for folder in made}
    (merged,) = [each["id"] for each in told.values() if each["origin"]["stage"] == "merge"]
    ours = {folder: each["origin"] for folder, each in told.items() if each["origin"]["parents"] == [merged]}
    (export,) = [folder for folder, origin in ours.items() if origin["settings"].get("export") == "openvino-int8"]
    return export / "files"
