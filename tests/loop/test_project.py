"""A project knows its files, its settings and what a release is held to."""

import os
import tomllib
from pathlib import Path

from vivace.config import Settings, load
from vivace.domain import Objective, SilentProgress
from vivace.loop.project import open_project, recipe
from vivace.loop.start import project_name


def test_a_digest_is_remembered_until_the_file_changes(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text("")
    data = tmp_path / "data.jsonl"
    data.write_text("one")
    with open_project(tmp_path, SilentProgress()) as project:
        first = project.digest(data)
        assert project.digest(data) == first
        data.write_text("two")
        os.utime(data, ns=(1, 1))
        assert project.digest(data) != first


def test_the_objective_is_what_the_file_says(tmp_path: Path) -> None:
    (tmp_path / "vivace.toml").write_text('[release]\nservice_level = "interactive"\nmax_size_mb = 1.5\n')
    with open_project(tmp_path, SilentProgress()) as project:
        assert project.objective == Objective(
            service_level="interactive", max_degradation=Settings().release.max_degradation, max_size_bytes=1_500_000
        )


def test_the_recipe_of_a_release_is_a_vivace_toml_that_makes_it_again() -> None:
    settings = Settings(project={"name": "a", "system": 'say "hi"\n'}, train={"max_tokens": None})
    assert Settings(**tomllib.loads(recipe(settings))) == settings


def test_a_folders_name_becomes_a_valid_name() -> None:
    assert project_name(Path("/x/My Shop (2)")) == "my-shop-2"
    assert project_name(Path("/x/???")) == "chatbot"


def test_the_recipe_of_a_release_reads_back_as_the_same_settings(tmp_path: Path) -> None:
    path = tmp_path / "vivace.toml"
    path.write_text('[data]\ncolumns = { "a b" = "c" }\n[data.label]\nembedder = "words"\n')
    settings = load(path)
    path.write_text(recipe(settings))
    assert load(path) == settings
