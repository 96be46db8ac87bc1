"""A release opens as it was written, anywhere, and a changed one does not open."""

import shutil
from pathlib import Path

import pytest

from tests.release.test_gate import BASE, card
from vivace.domain import Objective, Release, SilentProgress, Workspace
from vivace.errors import StoreError
from vivace.release import judge, open_release, write_release
from vivace.store.artifacts import Store


@pytest.fixture
def made(tmp_path: Path) -> Release:
    model = tmp_path / "model"
    (model / "sub").mkdir(parents=True)
    (model / "weights.bin").write_bytes(bytes(1000))
    (model / "sub" / "config.json").write_text("{}")
    chosen = card("tuned", 0.4)
    import msgspec

    item = msgspec.structs.replace(chosen.candidate, model=msgspec.structs.replace(chosen.candidate.model, path=model))
    chosen = msgspec.structs.replace(chosen, candidate=item)

    def work(workspace: Workspace) -> dict[str, str]:
        write_release(
            workspace.out, "shop", chosen, judge([BASE, chosen], Objective()), Objective(), "[project]\n", ("p",)
        )
        return {}

    store = Store(tmp_path / ".vivace")
    outcome = store.run("release", work, kind="release", settings={}, parents={}, progress=SilentProgress())
    return open_release(outcome.artifact.path)


def test_a_release_opens_with_its_model_and_scorecard(made: Release) -> None:
    assert made.name == "shop"
    assert made.parents == ("p",)
    assert (made.candidate.model.path / "sub" / "config.json").read_text() == "{}"
    assert made.scorecard.scores[0].value == 0.4


def test_a_release_can_be_copied_and_served_elsewhere(made: Release, tmp_path: Path) -> None:
    shutil.copytree(made.path.parent, tmp_path / "elsewhere")
    shutil.rmtree(made.path.parent)
    copied = open_release(tmp_path / "elsewhere" / "files")
    assert (copied.candidate.model.path / "weights.bin").is_file()
    assert copied.scorecard.scores == made.scorecard.scores


def test_no_path_of_this_machine_is_in_a_release(made: Release, tmp_path: Path) -> None:
    for path in made.path.parent.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes(), path


def test_a_changed_release_does_not_open(made: Release) -> None:
    weights = made.candidate.model.path / "weights.bin"
    weights.write_bytes(bytes(999) + b"\x01")
    with pytest.raises(StoreError, match="changed or damaged"):
        open_release(made.path)


def test_a_folder_that_is_no_release_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not a release"):
        open_release(tmp_path)
