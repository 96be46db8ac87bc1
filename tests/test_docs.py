"""The docs are true: generated pages are fresh, links lead somewhere, commands and keys they name exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from vivace.cli.main import COMMANDS
from vivace.config import Settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "CHANGELOG.md"]


def test_the_generated_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "make_docs.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_that_are_named_exist(page: Path) -> None:
    for name in re.findall(r"(?:^|[`/ ])vivace ([a-z]+)", page.read_text(), flags=re.MULTILINE):
        if f"`vivace {name}" in page.read_text() or f"\nvivace {name}" in page.read_text():
            assert name in COMMANDS, f"{page.name} names vivace {name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_keys_that_are_set_on_the_command_line_exist(page: Path) -> None:
    for table, key in re.findall(r"--set ([a-z]+)\.([a-z_]+)=", page.read_text()):
        model = Settings.model_fields[table].annotation
        assert key in model.model_fields, f"{page.name} sets {table}.{key}"  # type: ignore[union-attr]


def test_the_page_of_requirements_names_every_id() -> None:
    text = (ROOT / "docs" / "requirements.md").read_text()
    named = set(re.findall(r"^\| ([A-Z]\d+)(?:–[A-Z]?(\d+))? \|", text, flags=re.MULTILINE))
    ids = set()
    for first, last in named:
        letter, start = first[0], int(first[1:])
        ids |= {f"{letter}{number}" for number in range(start, int(last or start) + 1)}
    counts = {"D": 8, "T": 12, "O": 11, "E": 7, "P": 4, "R": 4, "S": 6, "M": 4, "N": 4}
    assert ids == {f"{letter}{number}" for letter, count in counts.items() for number in range(1, count + 1)}


def test_tests_that_the_page_of_requirements_names_exist() -> None:
    for folder in re.findall(r"`(tests/[a-z_/]+)`", (ROOT / "docs" / "requirements.md").read_text()):
        assert list((ROOT / folder).glob("test_*.py")), folder


@pytest.mark.slow
def test_the_example_of_the_engines_page_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "engines.md").read_text(), flags=re.DOTALL)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "Good morning"
