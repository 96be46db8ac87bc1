"""The whole loop through the command line: a release, nothing twice, and the same end after every kind of kill."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.journeys.shop import ENVIRONMENT, make_project, vivace
from vivace.release import open_release

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project whose loop has run to the end."""
    project = make_project(tmp_path_factory.mktemp("finished") / "shop", tiny_model)
    vivace("run", str(project))
    return project


def artifacts(project: Path, stage: str) -> list[str]:
    """The ids of what a stage made, from the manifests."""
    found = [json.loads(path.read_text()) for path in project.glob(".vivace/artifacts/*/*/manifest.json")]
    return sorted(manifest["id"] for manifest in found if manifest["origin"]["stage"] == stage)


def test_the_loop_ends_with_a_release_and_a_report(finished: Path) -> None:
    (folder,) = finished.glob(".vivace/artifacts/release/*")
    release = open_release(folder)
    assert release.candidate.engine == "openvino"
    assert release.candidate.chain == {"system": "You help the customers of a shop."}
    metrics = {score.metric for score in release.scorecard.scores}
    assert {"loss", "perplexity", "token_f1", "exact_match", "bleu", "chrf", "rouge_l"} <= metrics
    assert all(score.interval.low <= score.value <= score.interval.high for score in release.scorecard.scores)
    assert {found.metric for found in release.scorecard.comparisons} >= {"token_f1", "rouge_l"}
    assert release.scorecard.speed is not None
    assert release.scorecard.speed.completed > 0
    page = (finished / "report.html").read_text()
    assert "Released" in page
    assert "Plotly.newPlot" in page
    outside_of_scripts = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert len(outside_of_scripts) < len(page) / 2
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//|@import|url\(""", outside_of_scripts)
    assert "<script src" not in page


def test_a_second_run_does_no_work_and_says_so(finished: Path) -> None:
    again = vivace("run", str(finished))
    assert "Nothing to do" in again.stdout
    as_json = json.loads(vivace("run", str(finished), "--json").stdout)
    assert as_json["worked"] == []
    assert as_json["release"]["kind"] == "release"


def test_a_second_run_imports_nothing_heavy(finished: Path) -> None:
    code = (
        "import sys; sys.argv = ['vivace', 'run', sys.argv[1], '--quiet']\n"
        "from vivace.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print('HEAVY', sorted({'torch', 'transformers', 'polars', 'scipy', 'openvino', 'plotly'} & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code, str(finished)], capture_output=True, text=True, check=True)
    assert "HEAVY []" in shown.stdout


def test_a_changed_setting_runs_only_what_depends_on_it(finished: Path, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    shutil.copytree(finished, project)
    shown = json.loads(vivace("run", str(project), "--json", "--set", "bench.requests=3").stdout)
    assert shown["worked"] == ["bench", "release"]


def test_a_refused_release_says_why_and_still_reports(finished: Path, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    shutil.copytree(finished, project)
    strict = ("--set", "release.ttft_ms=0.001", "--set", 'release.service_level="interactive"')
    shown = vivace("run", str(project), *strict, check=False)
    assert shown.returncode == 8
    assert "No candidate meets the objective. The nearest is tuned-openvino-int8" in shown.stderr
    assert "Not released" in (project / "report.html").read_text()


def test_what_cannot_fit_is_not_begun_and_the_refusal_says_so(finished: Path, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    shutil.copytree(finished, project)
    shown = vivace("run", str(project), "--set", "release.max_size_mb=0.001", check=False)
    assert shown.returncode == 8, shown.stderr
    refusal = shown.stderr[shown.stderr.index("There is no candidate to release.") :]
    assert "openvino-int8 is not begun: it needs about" in refusal
    assert "Not released" in (project / "report.html").read_text()


def test_releases_are_listed_and_shown(finished: Path) -> None:
    listed = json.loads(vivace("release", "list", str(finished), "--json").stdout)
    shown = vivace("release", "show", listed[0]["id"][:8], "--project", str(finished))
    assert "tuned-openvino-int8" in shown.stdout


def test_a_question_on_the_command_line_is_answered(finished: Path) -> None:
    shown = vivace("chat", str(finished), "-m", "Where is my order?", "--max-tokens", "5")
    assert "tokens/s" in shown.stdout


@pytest.mark.parametrize("moment", ["train", "compress", "evaluate"])
def test_a_loop_killed_at_any_stage_goes_on_and_ends_the_same(
    finished: Path, tmp_path: Path, tiny_model: Path, moment: str
) -> None:
    project = make_project(tmp_path / "shop", tiny_model)
    process = subprocess.Popen(
        [sys.executable, "-m", "vivace", "run", str(project)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=ENVIRONMENT,
        start_new_session=True,
    )
    try:
        wait_until_in(project, moment, process)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not artifacts(project, moment) or moment != "train"
    vivace("run", str(project))
    for stage in ("data", "train", "merge", "compress"):
        assert artifacts(project, stage) == artifacts(finished, stage), stage
    ours, theirs = answers(project), answers(finished)
    assert ours == theirs


def wait_until_in(project: Path, moment: str, process: subprocess.Popen[bytes]) -> None:
    """Return when the stage has something half done on disk."""
    signs = {
        "train": "work/*/scratch/**/*.safetensors",
        "compress": "work/*/out/**/*",
        "evaluate": "work/*/scratch/*.jsonl",
    }
    done = {"train": "data", "compress": "train", "evaluate": "merge"}[moment]
    for _ in range(2400):
        assert process.poll() is None, "the loop ended before it could be killed"
        if artifacts(project, done) and any((project / ".vivace").glob(signs[moment])):
            return
        time.sleep(0.05)
    raise AssertionError(f"never saw {moment}")


def answers(project: Path) -> dict[str, list[str]]:
    """Every candidate's answers, by the ids of dataset and model."""
    found = {}
    for path in project.glob(".vivace/artifacts/report/*/manifest.json"):
        manifest = json.loads(path.read_text())
        if manifest["origin"]["stage"] == "evaluate":
            rows = (path.parent / "files" / "answers.jsonl").read_text().splitlines()
            found[" ".join(manifest["origin"]["parents"])] = [json.loads(row)["answer"] for row in rows]
    return found
