"""A loop that trims the vocabulary: every export has the smaller one, and everything else is as before."""

import json
from pathlib import Path

import pytest

from tests.journeys.shop import make_project, vivace
from vivace.models import ChatTokenizer
from vivace.release import open_release

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A project whose loop has run to the end, with an export of a trimmed model."""
    project = make_project(tmp_path_factory.mktemp("trimmed") / "shop", tiny_model, conversations=40, tests=4)
    (project / "returns.md").write_text("# Returns\n\nZyzzyva quokkas may be returned within thirty days.\n")
    text = (project / "vivace.toml").read_text().replace("[data]\n", '[data]\ndocuments = ["returns.md"]\n')
    (project / "vivace.toml").write_text(text)
    vivace("train", str(project))
    before = keys(project)
    text += '\n[compress.trim]\nmethod = "domain"\nkeep = 64\nmultiple = 16\n'
    (project / "vivace.toml").write_text(text)
    vivace("run", str(project))
    assert before <= keys(project)  # nothing was made again
    return project


def manifests(project: Path) -> list[dict[str, dict[str, str]]]:
    """Return what every artifact says of itself."""
    return [json.loads(path.read_text()) for path in project.glob(".vivace/artifacts/*/*/manifest.json")]


def keys(project: Path) -> set[str]:
    """Return the keys of all stages that ran."""
    return {manifest["origin"]["key"] for manifest in manifests(project)}


def made_by(project: Path, stage: str) -> list[Path]:
    """Return the folders that a stage made."""
    paths = project.glob(".vivace/artifacts/*/*/manifest.json")
    return [path.parent / "files" for path in paths if json.loads(path.read_text())["origin"]["stage"] == stage]


def test_the_released_model_has_the_domains_tokens_alone(finished: Path, tiny_model: Path) -> None:
    (trimmed,) = made_by(finished, "trim")
    (facts,) = [manifest["facts"] for manifest in manifests(finished) if manifest["origin"]["stage"] == "trim"]
    assert facts["vocab_size_before"] == 512
    size = facts["vocab_size_after"]
    assert 256 < size < 512
    assert facts["proof"]["domain_texts"] == facts["proof"]["identical_pieces"] > 20
    (folder,) = finished.glob(".vivace/artifacts/release/*")
    release = open_release(folder)
    for path in (trimmed, release.candidate.model.path):
        assert json.loads((path / "config.json").read_text())["vocab_size"] == size
        assert ChatTokenizer.open(path).vocab_size == size
        assert (path / "chat_template.jinja").read_bytes() == (tiny_model / "chat_template.jinja").read_bytes()


def test_documents_and_the_system_prompt_belong_to_the_domain(finished: Path, tiny_model: Path) -> None:
    (trimmed,) = made_by(finished, "trim")
    before, after = ChatTokenizer.open(tiny_model), ChatTokenizer.open(trimmed)
    for text in ("Zyzzyva quokkas may be returned within thirty days.", "You help the customers of a shop."):
        assert len(after.encode(text)) == len(before.encode(text))
        assert after.decode(after.encode(text)) == text


def test_trimmed_exports_answer_and_are_evaluated(finished: Path) -> None:
    scored = list(finished.glob(".vivace/artifacts/report/*/files/answers.jsonl"))
    assert len(scored) == 2
    for path in scored:
        assert sum(1 for _row in path.open()) == 4
    shown = vivace("chat", str(finished), "-m", "Where is my order? 中文 ▁", "--max-tokens", "5")
    assert "tokens/s" in shown.stdout


def test_a_second_run_trims_nothing_again(finished: Path) -> None:
    shown = json.loads(vivace("run", str(finished), "--json").stdout)
    assert shown["worked"] == []


def test_another_size_exports_again_and_trains_nothing(finished: Path) -> None:
    shown = vivace("compress", str(finished), "--json", "--set", "compress.trim.keep=1")
    worked = json.loads(shown.stdout)["worked"]
    assert worked == ["trim", "compress to openvino-int8"]
