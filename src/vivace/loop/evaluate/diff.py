"""Two things on the same held-out examples: candidates, releases, prompts, base models, earlier reports."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec

from vivace.domain import Artifact, Candidate, Progress, Workspace
from vivace.errors import ConfigError
from vivace.evaluate.difference import Difference
from vivace.loop import stages
from vivace.loop.evaluate.diff_page import markdown, render
from vivace.loop.evaluate.naming import find_candidate, grading_models
from vivace.loop.project import Project, open_project
from vivace.store.files import write_atomic

NAME = "difference.html"
REPORT = "difference.json"
REVISION = 1


def compare_two(
    start: Path, first: str, second: str, progress: Progress, *, metric: str = "", changes: Iterable[str] = ()
) -> Difference:
    """Compare two things on the project's test examples and write `difference.html` beside `vivace.toml`.

    Each is a candidate of the project, `release` (the newest) or the first digits of a release's id, a release's
    folder, a base model's name or folder, or the folder of an evaluation; `@FILE` behind it puts another system
    prompt before it. What has not answered yet is asked. Raises `ConfigError` for a name that is none of these,
    `DataError` where the two did not answer the same examples.
    """
    with open_project(start, progress, changes=changes) as project:
        names = _names(first, second)
        sides = _Sides(project)
        reports = [sides.report(words, name) for words, name in zip((first, second), names, strict=True)]
        return difference_stage(project, reports[0], reports[1], names, metric)


def difference_stage(
    project: Project, first: Path, second: Path, names: tuple[str, str], metric: str = "", *, page: bool = True
) -> Difference:
    """Compare two evaluations by their folders; what was compared already is read. `page` writes the page, too."""
    settings = project.settings.evaluate
    chosen = metric or project.settings.release.quality_metric

    def work(workspace: Workspace) -> dict[str, Any]:
        from vivace.evaluate.difference import difference

        with project.progress.task("Comparing"):
            found = difference(first, second, settings, chosen, names)
        write_atomic(workspace.out / REPORT, msgspec.json.format(msgspec.json.encode(found), indent=2))
        write_atomic(workspace.out / "difference.md", markdown(found))
        return {"outcome": found.outcome, "sentence": found.sentence}

    outcome = project.store.run(
        "diff",
        work,
        kind="report",
        settings={
            "metric": chosen,
            "names": list(names),
            "resamples": settings.resamples,
            "seed": settings.seed,
            "confidence": settings.confidence,
            "margin": settings.margin,
            "slice_by": settings.slice_by,
        },
        parents={"candidate": project.digest(first), "baseline": project.digest(second)},
        progress=project.progress,
        revision=REVISION,
    )
    found = msgspec.json.decode((outcome.artifact.path / REPORT).read_bytes(), type=Difference)
    if page:
        write_atomic(project.root / NAME, render(found))
    return found


class _Sides:
    """What names stand for; the loop runs only if a name asks for a candidate of it."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.dataset: Artifact | None = None

    def report(self, words: str, name: str) -> Path:
        """Return the folder of the evaluation of what `words` name; evaluate it if nobody has."""
        what, prompt = _split(words, self.project.root)
        folder = Path(what).expanduser()
        if (folder / "answers.jsonl").is_file():
            if prompt:
                raise ConfigError(
                    f"{what} is a finished evaluation: another prompt cannot be put before it.",
                    "Name the candidate instead.",
                )
            return folder
        item = find_candidate(self.project, what, self._made)
        if prompt:
            system = _system(prompt, self.project.root)
            item = msgspec.structs.replace(item, chain=item.chain | {"system": system})
        item = msgspec.structs.replace(item, name=name)
        graders = grading_models(self.project, self._made)
        outcome = stages.evaluate(self.project, item, self._dataset(), graders=graders)
        return outcome.artifact.path

    def _made(self) -> list[Candidate]:
        from vivace.loop.run import run

        return run(self.project, "compress").candidates

    def _dataset(self) -> Artifact:
        if self.dataset is None:
            from vivace.loop.run import run

            self.dataset = run(self.project, "data").dataset
        assert self.dataset is not None
        return self.dataset


def _split(words: str, root: Path) -> tuple[str, str]:
    """Return what is named and the file of its prompt; raises `ConfigError` where there is no such file."""
    what, at, prompt = words.rpartition("@")
    if not at or not what:
        return words, ""
    if not (root / prompt).is_file() and not Path(prompt).is_file():
        raise ConfigError(
            f"There is no file {prompt!r} with a system prompt.", "Write NAME@FILE, such as base@terse.txt."
        )
    return what, prompt


def _system(prompt: str, root: Path) -> str:
    path = Path(prompt) if Path(prompt).is_file() else root / prompt
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The system prompt {prompt} cannot be read.", "Name a UTF-8 text file.") from error


def _names(first: str, second: str) -> tuple[str, str]:
    """Return what to call the two: the last parts of their names, whole where these are the same."""
    short = [Path(words.rstrip("/")).name if "/" in words.partition("@")[0] else words for words in (first, second)]
    if first == second:
        raise ConfigError(f"{first} is compared with itself.", "Name two things.")
    return (short[0], short[1]) if short[0] != short[1] else (first, second)
