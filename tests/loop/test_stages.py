"""What a stage's key holds, and what it notes."""

from pathlib import Path

import msgspec
import pytest

from vivace.domain import Model, SilentProgress, Workspace
from vivace.loop import stages
from vivace.loop.project import open_project
from vivace.models import identify


def write_project(folder: Path) -> None:
    (folder / "chats").mkdir()
    (folder / "vivace.toml").write_text('[data]\nconversations = ["chats/*.jsonl"]\n')
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"Where is order {n}?"},
                {"role": "assistant", "content": f"At {n * n}."},
            ]
        }
        for n in range(30)
    ]
    (folder / "chats" / "talk.jsonl").write_bytes(b"\n".join(msgspec.json.encode(row) for row in rows) + b"\n")


def make(folder: Path) -> tuple[bool, str]:
    with open_project(folder, SilentProgress()) as project:
        made = stages.data(project)
        return made.reused, (made.artifact.path / "card.md").read_text()


def test_another_license_beside_the_data_makes_a_new_card(tmp_path: Path) -> None:
    write_project(tmp_path)
    reused, card = make(tmp_path)
    assert not reused
    assert "not stated" in card
    (tmp_path / "chats" / "LICENSE").write_text("CC-BY-4.0\n")
    reused, card = make(tmp_path)
    assert not reused
    assert "CC-BY-4.0" in card
    (tmp_path / "chats" / "LICENSE").write_text("\nCC0-1.0\nand more\n")
    reused, card = make(tmp_path)
    assert not reused
    assert "CC0-1.0" in card
    (tmp_path / "chats" / "LICENSE").write_text("CC0-1.0\nand what no card tells\n")
    assert make(tmp_path)[0]


@pytest.mark.slow
def test_an_export_notes_its_size_and_the_scorecard_tells_it(tmp_path: Path, tiny_model: Path) -> None:
    (tmp_path / "vivace.toml").write_text("")
    with open_project(tmp_path, SilentProgress()) as project:
        base = identify(tiny_model)
        exported, reused = stages.export(project, base, stages.BASE_EXPORT)
        assert not reused
        facts = project.store.artifact(exported.artifact_id).facts
        files = [path for path in exported.path.rglob("*") if path.is_file()]
        assert facts["files"] == len(files)
        assert facts["size_bytes"] == sum(path.stat().st_size for path in files)
        assert stages.size_of(project, exported) == facts["size_bytes"]
        assert stages.size_of(project, base) == sum(path.stat().st_size for path in tiny_model.iterdir())


def test_the_size_noted_is_told_and_without_a_note_the_files_are_counted(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text("")
    with open_project(tmp_path, SilentProgress()) as project:
        for facts, wanted in (({"size_bytes": 7}, 7), ({}, 11)):

            def work(workspace: Workspace, facts: dict[str, int] = facts) -> dict[str, int]:
                (workspace.out / "weights").write_bytes(b"x" * 11)
                return facts

            made = project.store.run(
                "compress", work, kind="model", settings={"facts": facts}, parents={}, progress=SilentProgress()
            ).artifact
            model = Model("m", made.path, "hf", "fp32", artifact_id=made.id)
            assert stages.size_of(project, model) == wanted
