"""The judge in a project: measured first, silent where it is no better than chance, resumed after an interruption."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from tests.engines.remote.provider import Exchange, openai_events, serving, streams
from tests.evaluate.fakes import FakeEngine, candidate, example, opener
from tests.evaluate.judge.judges import OpinionatedEngine, coin, people, perfect, raters, shown_answer, taste
from vivace.cli.evaluate_judge import judge as command
from vivace.cli.evaluate_judge import print_judge
from vivace.domain import Artifact, SilentProgress
from vivace.errors import ConfigError, DataError, EngineDied
from vivace.evaluate.run import evaluate_on
from vivace.loop.evaluate.judging import Judge, _candidates, calibrate, judge_candidates, open_judge, read_report
from vivace.loop.project import Project, open_project

LIMITS = "max_pairs = 60\nmax_ratings = 60"


@contextmanager
def project_at(folder: Path, more: str = LIMITS) -> Iterator[Project]:
    (folder / "vivace.toml").write_text(f"[evaluate]\nresamples = 200\n[evaluate.judge]\n{more}\n", encoding="utf-8")
    with open_project(folder, SilentProgress()) as project:
        yield project


def fake(engine: FakeEngine) -> Judge:
    return Judge("fake", candidate("fake"), "fake judge", opener(engine))


def opinion(pairs: Callable[[str], dict[str, float]], text: str) -> dict[str, float]:
    """Judge pairs by `pairs` and single answers as people do."""
    if "<answer A>" in text:
        return pairs(text)
    return {"5": 1.0} if taste(shown_answer(text)) else {"1": 1.0}


def ratings_file(folder: Path, pairs: int = 40, ratings: int = 40) -> Path:
    rows = [
        {"prompt": each.prompt[0].content, "answers": [each.first, each.second], "preferred": each.preferred}
        for each in people(pairs)
    ]
    rows += [
        {"prompt": each.prompt[0].content, "answer": each.answer, "rating": each.good} for each in raters(ratings, 5)
    ]
    path = folder / "ratings.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def evaluated(project: Project, name: str, role: str, says: str) -> Artifact:
    """Put an evaluation of a candidate that always says the same into the project."""
    settings = project.settings.evaluate
    item = candidate(name)
    item = type(item)(item.name, item.engine, item.model, {}, role)

    def work(workspace):
        engine = FakeEngine(lambda text: f"{says} to {text}")
        return evaluate_on(opener(engine), item, [example(n) for n in range(30)], settings, workspace)

    return project.store.run(
        "evaluate", work, kind="report", settings={"name": name}, parents={}, progress=SilentProgress()
    ).artifact


def test_a_judge_that_agrees_with_people_judges_the_candidates(tmp_path: Path) -> None:
    with project_at(tmp_path) as project:
        judge = fake(OpinionatedEngine(lambda text: opinion(perfect, text)))
        evaluated(project, "base", "baseline", "pears")
        evaluated(project, "tuned", "candidate", "apples")
        measured = calibrate(project, judge, ratings_file(tmp_path)).artifact
        assert read_report(measured).speaks
        made = judge_candidates(project, judge, measured, _candidates(project, (), "")).artifact
    report = read_report(made)
    (rate,) = report.win_rates
    assert (rate.candidate, rate.baseline, rate.outcome) == ("tuned", "base", "better")
    assert (rate.wins, rate.losses) == (30, 0)
    assert report.scored[0].scores[0].value == pytest.approx(5)
    assert report.scored[0].comparisons[0].difference == pytest.approx(4)
    assert "win rate" in (made.path / "judge.md").read_text()
    assert "<svg" in (made.path / "judge.html").read_text()


def test_each_kind_of_verdict_needs_its_own_agreement(tmp_path: Path) -> None:
    with project_at(tmp_path) as project:
        judge = fake(OpinionatedEngine(lambda text: opinion(coin, text)))
        evaluated(project, "base", "baseline", "pears")
        evaluated(project, "tuned", "candidate", "apples")
        measured = calibrate(project, judge, ratings_file(tmp_path)).artifact
        report = read_report(measured)
        assert not report.pairs.trusted
        assert report.ratings.trusted
        made = judge_candidates(project, judge, measured, _candidates(project, (), "")).artifact
    assert read_report(made).win_rates == ()
    assert len(read_report(made).scored) == 1


def test_without_opinions_of_people_the_judge_abstains_and_is_not_even_asked(tmp_path: Path) -> None:
    engine = OpinionatedEngine(perfect)
    with project_at(tmp_path) as project:
        report = read_report(calibrate(project, fake(engine)).artifact)
    assert not report.speaks
    assert "there are 0 comparisons" in report.pairs.sentence
    assert engine.scored == []


def test_an_interrupted_calibration_goes_on_and_an_unchanged_one_is_not_run_again(tmp_path: Path) -> None:
    path = ratings_file(tmp_path, pairs=25, ratings=25)
    with project_at(tmp_path) as project:
        dying = OpinionatedEngine(lambda text: opinion(perfect, text), dies_after=120)
        with pytest.raises(EngineDied):
            calibrate(project, fake(dying), path)
        again = OpinionatedEngine(lambda text: opinion(perfect, text))
        assert not calibrate(project, fake(again), path).reused
        whole = 25 * 2 * 3 + 25 * 5
        assert 0 < len(again.scored) < whole
        silent = OpinionatedEngine(perfect)
        assert calibrate(project, fake(silent), path).reused
    assert silent.scored == []


async def tells_its_opinion(exchange: Exchange) -> None:
    """Answer as a judge who agrees with people."""
    said = opinion(perfect, exchange.seen.body["messages"][-1]["content"])
    await streams(openai_events((max(said, key=lambda word: said[word]),)))(exchange)


def test_a_provider_judges_and_is_asked_without_the_chatbots_own_prompt(tmp_path: Path) -> None:
    with serving(tells_its_opinion) as url:
        cloud = f'[models.providers.cloud]\nbase_url = "{url}"\nmodel = "gpt-4o"\n[project]\nsystem = "Only sell."'
        with project_at(tmp_path, f'{LIMITS}\nmodel = "cloud"\n{cloud}') as project:
            judge = open_judge(project)
            assert (judge.candidate.engine, judge.candidate.chain) == ("openai", {})
            report = read_report(calibrate(project, judge, ratings_file(tmp_path)).artifact)
    assert report.read == "text"
    assert report.pairs.trusted
    assert report.ratings.trusted


def test_wrong_inputs_are_one_sentence_each(tmp_path: Path) -> None:
    with project_at(tmp_path) as project:
        with pytest.raises(DataError, match="no file"):
            calibrate(project, fake(FakeEngine(str)), tmp_path / "absent.jsonl")
        with pytest.raises(ConfigError, match="No candidate 'tunde' was evaluated"):
            _candidates(project, ("tunde",), "")
        evaluated(project, "tuned", "candidate", "apples")
        with pytest.raises(ConfigError, match="Did you mean 'tuned'"):
            _candidates(project, ("tunde",), "")
    with project_at(tmp_path, 'model = "tuned"') as project, pytest.raises(ConfigError, match="no model was tuned yet"):
        open_judge(project)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("criteria = []", "at least one criterion"),
        ('criteria = [{name = "a", text = "x"}, {name = "a", text = "y"}]', "same name"),
        ("max_pears = 3", "max_pears"),
    ],
)
def test_a_wrong_setting_is_told(tmp_path: Path, line: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told), project_at(tmp_path, line):
        pass


def test_what_is_printed_says_that_it_abstains(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with project_at(tmp_path) as project:
        made = calibrate(project, fake(OpinionatedEngine(lambda text: opinion(coin, text))), ratings_file(tmp_path))
    print_judge(read_report(made.artifact), made.artifact.path)
    told = " ".join(capsys.readouterr().out.split())
    assert "The judge abstains" in told
    assert "Cohen's kappa" in told


@pytest.mark.slow
def test_the_command_measures_a_model_of_the_users_own(tmp_path: Path, tiny_model: Path) -> None:
    with project_at(tmp_path, 'export = "none"\nmax_pairs = 20\nmax_ratings = 20\nmax_chars = 200'):
        pass
    app = typer.Typer()
    app.command()(command)
    ratings = ratings_file(tmp_path, 22, 22)
    arguments = ["--ratings", str(ratings), "--judge", str(tiny_model), "-p", str(tmp_path), "--json", "-q"]
    told = CliRunner().invoke(app, arguments, catch_exceptions=False)
    report = json.loads(told.stdout)
    assert report["read"] == "likelihood"
    assert report["pairs"]["count"] == 20
    assert report["pairs"]["sentence"].startswith("The judge abstains")
    assert report["left_out"] == {"more than max_ratings or max_pairs": 4}
