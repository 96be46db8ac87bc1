"""One word is the command, the package, the table, the page and the folder of tests."""

import ast
import re
from pathlib import Path

import pytest

from vivace.cli.main import COMMANDS
from vivace.config import Settings

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "vivace"
VERBS = {"init", "run", "demo", "chat", "doctor"}
BANNED = {"utils", "util", "common", "helpers", "helper", "base", "core", "manager", "handler"}
FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("word", sorted(set(COMMANDS) - VERBS))
def test_a_commands_word_is_a_package_a_table_a_page_and_a_folder_of_tests(word: str) -> None:
    assert (SOURCE / word / "__init__.py").is_file()
    assert (SOURCE / "cli" / f"{word}.py").is_file()
    assert word in Settings.model_fields
    assert (ROOT / "docs" / f"{word}.md").is_file()
    assert list((ROOT / "tests" / word).glob("test_*.py"))


def test_every_table_is_a_command_but_the_projects_own() -> None:
    assert set(Settings.model_fields) - {"project"} <= set(COMMANDS)


def test_no_file_has_a_name_that_says_nothing() -> None:
    assert [path for path in FILES if path.stem.strip("_") in BANNED] == []


def test_files_stay_readable() -> None:
    assert [path.name for path in FILES if len(path.read_text().splitlines()) > 450] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_functions_stay_short_and_modules_say_what_they_are_for(path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree), f"{path} does not say what it is for"
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            statements = sum(isinstance(inner, ast.stmt) for inner in ast.walk(node)) - 1
            assert statements <= 45, f"{path.name}:{node.lineno} {node.name} has {statements} statements"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_nothing_is_pickled_and_no_remote_code_is_trusted(path: Path) -> None:
    text = path.read_text()
    for banned in (r"\bimport pickle\b", r"\btorch\.(save|load)\(", r"trust_remote_code\s*=\s*True", r"\blitellm\b"):
        assert not re.search(banned, text), f"{path} holds {banned}"


def test_the_project_names_no_machine_path() -> None:
    places = ("src", "docs", "examples", "benchmarks", "scripts", "tests")
    for place in places:
        for path in (ROOT / place).rglob("*"):
            if path.suffix in {".py", ".md", ".toml", ".jinja", ".txt"} and path.name != "test_rhyme.py":
                found = re.search(r"(^|[\s\"'(=])/(work|root|home)/", path.read_text(errors="replace"))
                assert not found, f"{path} names a machine path"
