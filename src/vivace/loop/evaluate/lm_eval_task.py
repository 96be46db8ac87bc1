"""The project's test set as a task for lm-evaluation-harness, so that others can check us."""

from collections.abc import Iterable
from pathlib import Path

from vivace.domain import Progress
from vivace.loop.project import open_project
from vivace.store import read_examples


def export_project_task(start: Path, out: Path, progress: Progress, *, changes: Iterable[str] = ()) -> list[Path]:
    """Write the questions that `vivace evaluate` asks, with its metrics, into the folder `out`; return the files."""
    from vivace.evaluate.general.export import export_task
    from vivace.evaluate.run import choose
    from vivace.loop.run import run

    with open_project(start, progress, changes=changes) as project:
        dataset = run(project, "data").dataset
        assert dataset is not None
        settings = project.settings
        asked = list(read_examples(dataset.path / "examples.jsonl", "test"))[: settings.evaluate.max_examples]
        chosen, _unscorable, _left_out = choose(asked, settings.evaluate)
        return export_task(
            sorted(chosen, key=lambda each: each.id),
            out,
            name=f"{settings.project.name}_test",
            system=settings.project.system,
            max_tokens=settings.evaluate.max_tokens,
        )
