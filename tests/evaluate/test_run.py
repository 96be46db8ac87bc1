"""An evaluation from examples to files, interrupted or not."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from tests.evaluate.fakes import SETTINGS, FakeEngine, LikelyEngine, candidate, example, opener, workspace
from vivace.domain import Candidate, Model
from vivace.errors import DataError, EngineDied
from vivace.evaluate import METRICS, evaluate, load_report
from vivace.evaluate.run import choose, evaluate_on
from vivace.store.files import folder_digest, read_journal

EXAMPLES = [example(number, intent="refund" if number % 2 else "greeting") for number in range(12)]


EMBEDDED = "embedding_similarity"  # measured only where the embedder is on this machine
ELSEWHERE = {"label_accuracy", "label_f1", "json_validity", "tool_call_accuracy", "tool_name_accuracy"}
ELSEWHERE |= {"token_accuracy"}  # the fake tells how likely, not which token it would have chosen


def run(engine, folder, *, examples=EXAMPLES, settings=SETTINGS):
    place = workspace(folder)
    return evaluate_on(opener(engine), candidate("tuned"), examples, settings, place), place


def test_an_evaluation_writes_scores_with_intervals_for_every_metric(tmp_path):
    facts, place = run(LikelyEngine(lambda question: f"the answer to {question} is"), tmp_path)
    assert sorted(path.name for path in place.out.iterdir()) == [
        "answers.jsonl", "facts.json", "report.md", "scores.json", "slices.json",
    ]  # fmt: skip
    report = load_report(place.out)
    measured = [score.metric for score in report.scores if score.metric != EMBEDDED]
    assert measured == [name for name in METRICS.names() if name not in (*ELSEWHERE, EMBEDDED)]
    for score in report.scores:
        assert score.interval.low <= score.value <= score.interval.high
        assert score.count == 12
    assert report.score("perplexity").value == pytest.approx(2.0)
    assert facts["scores"]["token_f1"] == report.score("token_f1").value
    assert facts["failed"] == 0
    assert set(facts["missing_metrics"]) - {EMBEDDED} == ELSEWHERE
    assert set(facts["signatures"]) - {EMBEDDED} == set(measured)
    assert set(report.answers[0].scores) - {EMBEDDED} == set(measured) - {"bleu"}  # of one sentence it means little


def test_an_engine_without_likelihood_has_no_loss_and_the_report_says_why(tmp_path):
    facts, place = run(FakeEngine(str.upper), tmp_path)
    unlikely = [name for name, why in facts["missing_metrics"].items() if why == "The engine cannot tell likelihoods."]
    assert unlikely == ["loss", "perplexity", "token_accuracy"]
    assert "loss" not in facts["scores"]
    assert "Not measured: loss. The engine cannot tell likelihoods." in (place.out / "report.md").read_text()


def test_failures_score_zero_and_are_listed(tmp_path):
    references = {each.messages[0].content: each.reference for each in EXAMPLES}
    facts, place = run(FakeEngine(lambda question: references[question]), tmp_path / "all")
    assert facts["scores"]["token_f1"] == 1.0
    broken = FakeEngine(lambda question: "!" if "question 3" in question else references[question])
    facts, place = run(broken, tmp_path / "one-less")
    assert facts["scores"]["token_f1"] == pytest.approx(11 / 12)
    assert facts["failed"] == 1
    assert load_report(place.out).facts.failed == {"example-003": "This one cannot be answered."}
    assert "- example-003: This one cannot be answered." in (place.out / "report.md").read_text()


def test_an_interrupted_run_gives_the_files_an_uninterrupted_one_gives(tmp_path):
    with pytest.raises(EngineDied):
        run(LikelyEngine(str.upper, dies_after=9), tmp_path / "a")
    assert not list((tmp_path / "a" / "out").iterdir())
    _, interrupted = run(LikelyEngine(str.upper), tmp_path / "a")
    _, straight = run(LikelyEngine(str.upper), tmp_path / "b", examples=random.Random(1).sample(EXAMPLES, 12))
    assert folder_digest(interrupted.out) == folder_digest(straight.out)


def test_a_finished_journal_needs_no_engine(tmp_path):
    run(FakeEngine(str.upper), tmp_path)
    idle = FakeEngine(str.upper)
    run(idle, tmp_path)
    assert idle.asked == []


def test_kill_9_loses_no_finished_group_and_none_is_asked_twice(tmp_path):
    script = tmp_path / "slow_run.py"
    script.write_text(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from tests.evaluate.test_run import run\n"
        "from tests.evaluate.fakes import FakeEngine\n"
        "def reply(question):\n"
        "    with open(sys.argv[2], 'a') as log: log.write(question + '\\n')\n"
        "    time.sleep(0.05)\n"
        "    return question.upper()\n"
        "run(FakeEngine(reply), Path(sys.argv[1]))\n"
    )
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(root / "src"), str(root), *sys.path])}
    log = tmp_path / "asked.txt"
    process = subprocess.Popen([sys.executable, script, tmp_path / "a", log], env=environment)
    journal = tmp_path / "a" / "scratch" / "groups.jsonl"
    deadline = time.monotonic() + 60
    while len(read_journal(journal)) < 2 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    finished = len(read_journal(journal)) * SETTINGS.concurrency
    assert 8 <= finished < 12
    second = FakeEngine(str.upper)
    _, place = run(second, tmp_path / "a")
    assert len(second.asked) == 12 - finished
    assert len(set(log.read_text().splitlines()[:finished])) == finished
    _, straight = run(FakeEngine(str.upper), tmp_path / "b")
    assert folder_digest(place.out) == folder_digest(straight.out)


def test_every_candidate_is_asked_the_same_sample(tmp_path):
    settings = SETTINGS.model_copy(update={"max_examples": 5})
    first, _, left_out = choose(EXAMPLES, settings)
    second, _, _ = choose(EXAMPLES[::-1], settings)
    assert first == second
    assert (len(first), left_out) == (5, 7)
    facts, place = run(FakeEngine(str.upper), tmp_path, settings=settings)
    assert facts["left_out"] == 7
    assert "7 more examples were left out" in (place.out / "report.md").read_text()


def test_examples_without_a_text_answer_are_listed_not_dropped(tmp_path):
    silent = msgspec.structs.replace(EXAMPLES[0], id="tool-call", messages=EXAMPLES[0].messages[:-1])
    facts, place = run(FakeEngine(str.upper), tmp_path, examples=[*EXAMPLES, silent])
    assert facts["unscorable"] == ["tool-call"]
    assert "not asked: tool-call." in (place.out / "report.md").read_text()


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_examples_are_refused_with_a_hint(tmp_path, count):
    with pytest.raises(DataError, match=f"There are {count} test examples") as caught:
        run(FakeEngine(str.upper), tmp_path, examples=EXAMPLES[:count])
    assert "test_fraction" in caught.value.hint


def test_two_examples_with_one_id_are_refused(tmp_path):
    with pytest.raises(DataError, match="example-000"):
        run(FakeEngine(str.upper), tmp_path, examples=[EXAMPLES[0], EXAMPLES[0]])


def test_the_echo_engine_is_evaluated_from_start_to_end(tmp_path):
    model = Model("echo", tmp_path, "echo", "none")
    place = workspace(tmp_path)
    facts = evaluate(Candidate("echo", "echo", model, {"system": "Be brief."}), EXAMPLES, SETTINGS, place, threads=1)
    report = load_report(place.out)
    assert [each.answer for each in report.answers] == [each.prompt[-1].content for each in EXAMPLES]
    assert facts["failed"] == 0
    assert facts["scores"]["loss"] > 0
    assert 0 < facts["scores"]["token_f1"] < 1


def test_an_engine_that_crashes_in_earnest_ends_the_run_and_the_next_continues(tmp_path):
    place = workspace(tmp_path)
    (tmp_path / "echo.json").write_text('{"crash_on": "question 9"}')
    echo = Candidate("echo", "echo", Model("echo", tmp_path, "echo", "none"))
    with pytest.raises(EngineDied):
        evaluate(echo, EXAMPLES, SETTINGS, place, threads=1)
    (tmp_path / "echo.json").write_text("{}")
    kept = len(read_journal(place.scratch / "groups.jsonl"))
    evaluate(echo, EXAMPLES, SETTINGS, place, threads=1)
    journal = read_journal(place.scratch / "groups.jsonl")
    assert len(journal) == 3
    assert kept < 3
    straight = workspace(tmp_path / "straight")
    evaluate(echo, EXAMPLES, SETTINGS, straight, threads=1)
    assert folder_digest(place.out) == folder_digest(straight.out)


def test_likelihoods_are_not_asked_for_where_nobody_wants_them(tmp_path):
    settings = SETTINGS.model_copy(update={"likelihood": False})
    facts, _place = run(LikelyEngine(str.upper), tmp_path, settings=settings)
    assert facts["missing_metrics"]["loss"] == "[evaluate] likelihood is off."
    assert "token_f1" in facts["scores"]
