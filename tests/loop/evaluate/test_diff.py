"""Two things on the same examples, by the names that people know them by; and what that means for a release."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from typer.testing import CliRunner

from tests.engines.remote.provider import ANSWER, openai_events, serving, streams
from tests.loop.tasks import make_tasks
from tests.models.gguf_files import write_gguf
from vivace.cli.evaluate import app
from vivace.cli.results import print_cards
from vivace.domain import SilentProgress
from vivace.errors import ConfigError, DataError
from vivace.loop.evaluate.diff import NAME, compare_two
from vivace.loop.project import open_project
from vivace.loop.report import further_metrics
from vivace.loop.run import run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project with a release."""
    project = make_tasks(tmp_path_factory.mktemp("diff") / "shop", tiny_model, count=120, max_tokens=20_000)
    config = project / "vivace.toml"
    config.write_text(config.read_text().replace("max_tokens = 8\n", "max_tokens = 40\n"))
    with open_project(project, SilentProgress()) as opened:
        result = run(opened)
    assert result.release is not None, result.refusal
    (project / "terse.txt").write_text("Answer with one word.\n")
    return project


def compared(project: Path, first: str, second: str, **named: Any) -> Any:
    return compare_two(project, first, second, SilentProgress(), **named)


def test_a_candidate_is_compared_with_the_base_and_the_page_is_written(shop: Path) -> None:
    found = compared(shop, "tuned-openvino-int8", "base")
    assert (found.candidate, found.baseline, found.metric) == ("tuned-openvino-int8", "base", "token_f1")
    assert found.outcome == "better"
    page = (shop / NAME).read_text()
    assert found.sentence.split(":")[0] in page
    assert "Plotly.newPlot" in page


def test_a_release_is_its_candidate(shop: Path) -> None:
    found = compared(shop, "release", "base")
    direct = compared(shop, "tuned-openvino-int8", "base")
    assert found.candidate == "release"
    assert [each.difference for each in found.comparisons] == [each.difference for each in direct.comparisons]
    with open_project(shop, SilentProgress()) as opened:
        (made,) = opened.store.artifacts("release")
    assert compared(shop, made.id[:8], "release").outcome == "as good"
    assert compared(shop, str(made.path), "base").outcome == "better"


def test_another_prompt_is_another_candidate(shop: Path) -> None:
    found = compared(shop, "base@terse.txt", "base")
    assert (found.candidate, found.baseline) == ("base@terse.txt", "base")
    with open_project(shop, SilentProgress()) as opened:
        reports = opened.store.artifacts("evaluate")
    facts = [json.loads((report.path / "facts.json").read_bytes()) for report in reports]
    assert {fact["chain"].get("system") for fact in facts} == {None, "Answer with one word."}


def test_finished_evaluations_are_compared_as_they_are(shop: Path) -> None:
    with open_project(shop, SilentProgress()) as opened:
        reports = opened.store.artifacts("evaluate")
    folders = {json.loads((report.path / "facts.json").read_bytes())["candidate"]: report.path for report in reports}
    assert compared(shop, str(folders["base"]), "base").outcome == "as good"
    with pytest.raises(ConfigError, match="another prompt cannot be put before it"):
        compared(shop, f"{folders['base']}@{shop / 'terse.txt'}", "base")


@pytest.mark.parametrize(
    ("first", "second", "told"),
    [
        ("base", "base", "compared with itself"),
        ("tuned-openvino-int9", "base", "tuned-openvino-int8"),
        ("base@missing.txt", "base", "missing.txt"),
        ("nothing/at/all", "base", "no candidate, release, model or evaluation"),
    ],
)
def test_names_that_mean_nothing_are_refused_in_a_sentence(shop: Path, first: str, second: str, told: str) -> None:
    with pytest.raises(ConfigError) as raised:
        compared(shop, first, second)
    assert told in f"{raised.value} {raised.value.hint}"


def test_a_metric_nobody_measured_is_refused(shop: Path) -> None:
    with pytest.raises(DataError, match="cannot be compared in kindness"):
        compared(shop, "tuned-openvino-int8", "base", metric="kindness")


def test_the_command_prints_a_sentence_a_table_and_json(shop: Path) -> None:
    words = ["diff", "tuned-openvino-int8", "base", "-p", str(shop), "--quiet"]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert shown.output.startswith("tuned-openvino-int8 is better than base: +")
    assert "better/equal/worse" in shown.output
    told = json.loads(CliRunner().invoke(app, [*words, "--json"]).output)
    assert told["outcome"] == "better"
    assert {part["field"] for part in told["slices"]} <= {"reference_length", "turn", "intent", "language", "group"}


def test_a_model_that_is_worse_than_the_newest_release_is_not_released(shop: Path) -> None:
    with open_project(shop, SilentProgress(), changes=["train.learning_rate=1e-8"]) as opened:
        result = run(opened)
    assert result.release is None
    (verdict,) = result.verdicts
    missed = [reason.requirement for reason in verdict.reasons if not reason.met]
    assert len(missed) == 1
    assert missed[0].startswith("not worse than release ")
    assert missed[0] in result.refusal
    lenient = ["train.learning_rate=1e-8", "release.must_not_regress=false"]
    with open_project(shop, SilentProgress(), changes=lenient) as opened:
        assert run(opened).release is not None


def test_the_release_itself_does_not_stand_in_its_own_way(shop: Path) -> None:
    with open_project(shop, SilentProgress(), changes=["release.must_not_regress=true"]) as opened:
        result = run(opened)
        assert result.release is not None
        assert msgspec.to_builtins(result.verdicts[0].reasons)


def test_a_provider_is_compared_as_a_candidate_and_its_key_is_written_nowhere(
    shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_KEY", "sk-very-secret-4711")
    with serving(streams(openai_events())) as url:
        changes = [
            f'models.providers.cloud={{base_url="{url}", model="gpt-4o", api_key="env:SHOP_KEY"}}',
        ]
        found = compared(shop, "cloud", "tuned-openvino-int8", changes=changes)
    assert (found.candidate, found.baseline, found.outcome) == ("cloud", "tuned-openvino-int8", "worse")
    assert any(pair.candidate == ANSWER for pair in found.regressions)
    files = [path for path in shop.rglob("*") if path.is_file()]
    assert any(path.name == "provider.json" for path in files)
    assert not [path for path in files if b"sk-very-secret-4711" in path.read_bytes()]


def test_the_newest_release_is_evaluated_anew_under_a_name_of_its_own(shop: Path) -> None:
    with open_project(shop, SilentProgress(), changes=["evaluate.max_tokens=12", "train.learning_rate=3e-8"]) as opened:
        release, *_older = opened.store.artifacts("release")
        result = run(opened, "evaluate")
        evaluated = {each.facts["candidate"]: each.id for each in reversed(opened.store.artifacts("evaluate"))}
    assert f"release {release.short_id}" in evaluated
    assert evaluated["tuned-openvino-int8"] == result.reports["tuned-openvino-int8"].id


def test_a_prompt_that_is_not_utf_8_is_refused_with_its_name(shop: Path) -> None:
    (shop / "latin.txt").write_bytes("Gr\xfc\xdfe".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"The system prompt latin\.txt cannot be read"):
        compared(shop, "base@latin.txt", "base")


def test_a_gguf_file_is_something_to_compare_with(shop: Path, tiny_model: Path, tmp_path: Path) -> None:
    path = write_gguf(tiny_model, tmp_path / "tiny.gguf")
    found = compared(shop, str(path), "base")
    assert found.candidate == "tiny.gguf"
    assert found.outcome in ("as good", "unproven")  # it is the base in another format


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("token_f2", "there is no metric 'token_f2'"),
        ("loss", "it looks at likelihoods, not at answers"),
        ("length_ratio", "more of it is not better"),
    ],
)
def test_a_metric_that_cannot_decide_a_release_is_refused_before_anything_is_made(
    shop: Path, metric: str, said: str
) -> None:
    with (
        open_project(shop, SilentProgress(), changes=[f'release.quality_metric="{metric}"']) as opened,
        pytest.raises(ConfigError, match=said),
    ):
        run(opened)


def test_a_function_of_the_project_decides_a_release(shop: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (shop / "own.py").write_text(
        "def polite(answer, reference, example):\n"
        "    return float(bool(set(answer.split()) & set(reference.split())))\n"
    )
    changes = ['evaluate.own=["own.py:polite"]', 'release.quality_metric="polite"']
    with open_project(shop, SilentProgress(), changes=changes) as opened:
        result = run(opened, "evaluate")
    scores = {each.candidate.name: {score.metric for score in each.scores} for each in result.scorecards}
    assert all("polite" in metrics for metrics in scores.values())
    assert further_metrics(result.scorecards)[-1] == ("polite", "polite", "a metric of your own")
    print_cards(result.scorecards)
    assert "Further metrics" in capsys.readouterr().out
    assert opened.objective.quality_metric == "polite"
    assert compared(shop, "tuned-openvino-int8", "base", changes=changes).metric == "polite"
