"""`retrieval` and `grounding` as a user types them."""

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from vivace.cli.evaluate_grounding import grounding, retrieval
from vivace.errors import ConfigError, DataError

app = typer.Typer()
app.command()(retrieval)
app.command()(grounding)


def run(*arguments: object) -> str:
    told = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert told.exit_code == 0, told.output
    return told.stdout


@pytest.fixture
def files(tmp_path: Path) -> Path:
    lines = [f"q{n} 0 a 1" for n in range(12)]
    (tmp_path / "qrels").write_text("\n".join(lines))
    (tmp_path / "good.trec").write_text("\n".join(f"q{n} Q0 a 1 2 good" for n in range(12)))
    poor = [f"q{n} Q0 b 1 2 poor\nq{n} Q0 a 2 1 poor" for n in range(11)]
    (tmp_path / "poor.trec").write_text("\n".join([*poor, "q99 Q0 a 1 1 poor"]))
    (tmp_path / "answers.jsonl").write_text(
        '{"id": "one", "answer": "Parking is free. Breakfast costs 15 euros.", '
        '"sources": ["Parking is free.", "Breakfast costs 12 euros."]}\n'
    )
    return tmp_path


def test_a_run_is_scored_and_compared(files: Path) -> None:
    told = run("retrieval", files / "good.trec", files / "qrels", "--against", files / "poor.trec", "--at", "1")
    assert "12 judged queries" in told
    assert "R@1" in told
    assert "better" in told
    assert "poor.trec has no result for 1 judged queries; they count 0." in told
    assert "1 queries without a relevant document" in told


def test_the_figures_are_json_for_programs_and_a_file_for_later(files: Path) -> None:
    told = json.loads(run("retrieval", files / "poor.trec", files / "qrels", "--json", "--out", files / "out"))
    scores = {score["metric"]: score for score in told["run"]["scores"]}
    assert scores["RR"]["value"] == pytest.approx(11 / 2 / 12)
    assert scores["RR"]["interval"]["low"] < 11 / 24 <= scores["RR"]["interval"]["high"]
    assert json.loads((files / "out" / "retrieval.json").read_text()) == told


def test_answers_are_looked_up_and_the_report_is_written(files: Path) -> None:
    told = " ".join(run("grounding", files / "answers.jsonl", "--out", files / "out").split())
    assert "2 claims in 1 answers: 50.0%" in told
    assert "one: contradicted: Breakfast costs 15 euros. (in no source: 15)" in told
    assert "looked up, not understood" in told
    assert {path.name for path in (files / "out").iterdir()} == {"grounding.json", "grounding.md", "grounding.html"}


def test_an_embedder_can_be_named_and_a_wrong_name_is_told(files: Path) -> None:
    assert "and by meaning (words)" in " ".join(
        run("grounding", files / "answers.jsonl", "--embedder", "words").split()
    )
    with pytest.raises(ConfigError, match="no embedder 'minilmm'"):
        run("grounding", files / "answers.jsonl", "--embedder", "minilmm")


def test_files_in_the_wrong_place_are_one_sentence(files: Path) -> None:
    with pytest.raises(DataError, match="line 1: 6 fields instead of 4"):
        run("retrieval", files / "qrels", files / "good.trec")
    with pytest.raises(DataError, match="line 1"):
        run("grounding", files / "qrels")
