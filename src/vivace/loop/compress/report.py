"""From a project to its compressed models, measured: every plan it names, or the one that meets goals."""

from pathlib import Path

from vivace.compress.plans.goals import Goals
from vivace.config.plan import FOR_GPU_SERVERS
from vivace.loop.compress.measure import Measured, measurable, measure, reference_of
from vivace.loop.compress.page import write_page
from vivace.loop.compress.search import SPLIT, TRIES, Found, find_plan
from vivace.loop.project import Project
from vivace.loop.run import tuned


def find(project: Project, goals: Goals, tries: int = TRIES) -> tuple[Found, Path]:
    """Find a plan for the tuned model, training it first where that is not done; return it and the report's page."""
    merged, dataset, note = tuned(project)
    found = find_plan(project, merged, dataset, goals, note, tries)
    return found, write_page(project.root, found.measured, found)


def measure_plans(project: Project) -> tuple[Measured, Path]:
    """Measure every step of every plan of the project beside the tuned model; return it and the report's page."""
    merged, dataset, note = tuned(project)
    settings = project.settings.compress
    items = [reference_of(project, merged, note)]
    for plan in settings.every_plan:
        for kind in (kind for kind in settings.exports_of(plan) if kind not in FOR_GPU_SERVERS):
            items += measurable(project, plan, kind, merged, dataset, note)
    measured, outcome = measure(project, items, dataset, SPLIT)
    note("measure the steps", outcome.reused)
    return measured, write_page(project.root, measured)
