"""What two evaluations say about a candidate: slices that break, and whether it is worse than the newest release."""

from collections.abc import Mapping
from pathlib import Path

import msgspec
from msgspec import Struct

from vivace.domain import Artifact, Candidate, Reason
from vivace.errors import ConfigError, VivaceError
from vivace.evaluate.difference import Difference
from vivace.loop import stages
from vivace.loop.evaluate.diff import difference_stage
from vivace.loop.project import Project
from vivace.registry import nearest

_SHOWN = 3


class Newest(Struct, frozen=True):
    """The newest release, and its evaluation on the examples of today."""

    candidate: Candidate
    report: Path


def check_quality_metric(project: Project) -> None:
    """Raise `ConfigError`, before anything is made, where the gate could not look at `quality_metric`."""
    from vivace.evaluate import METRICS
    from vivace.evaluate.graders import bring

    wanted, name = project.settings.evaluate, project.settings.release.quality_metric
    brought = bring(wanted.graders, wanted.graders_file, wanted.own, project.root).metrics(())
    found = {each.name: each for each in brought if each.compared}
    names = [*METRICS.names(), *found]
    if name not in names:
        raise ConfigError(
            f"release.quality_metric: there is no metric {name!r}.", nearest(name, names) + " docs/evaluate.md"
        )
    metric = found.get(name) or METRICS.load(name)
    if metric.of_likelihood or not (metric.compared and metric.higher_is_better):
        reason = "it looks at likelihoods, not at answers" if metric.of_likelihood else "more of it is not better"
        raise ConfigError(
            f"release.quality_metric: {name} cannot decide a release, because {reason}.",
            'Take one that looks at answers, such as "token_f1".',
        )


def newest_release(project: Project, dataset: Artifact, graders: Mapping[str, Candidate]) -> Newest | None:
    """Evaluate the newest release on the dataset's test examples; None without one, or where it cannot be opened."""
    if not project.settings.release.must_not_regress:
        return None
    from vivace.release import open_release

    found = project.store.artifacts("release")
    if not found:
        return None
    try:
        released = open_release(found[0].path).candidate
        # Under a name of its own: its report must not be taken for that of today's candidate of the same name.
        candidate = msgspec.structs.replace(released, name=f"release {found[0].short_id}")
        outcome = stages.evaluate(project, candidate, dataset, graders=graders)
    except VivaceError as error:
        project.progress.say(f"Not compared with release {found[0].short_id}: {error}")
        return None
    return Newest(candidate, outcome.artifact.path)


def findings(
    project: Project,
    item: Candidate,
    baseline: Candidate,
    reports: Mapping[str, Artifact],
    newest: Newest | None,
) -> tuple[Reason, ...]:
    """Return the requirements of `[release]` that need two evaluations; none for the baseline itself."""
    if item.name == baseline.name:
        return ()
    ours = reports[item.name].path
    reasons = []
    if project.settings.release.slices_must_hold:
        found = difference_stage(project, ours, reports[baseline.name].path, (item.name, baseline.name), page=False)
        reasons.append(_slices(found))
    if newest is not None and not _is_same(item, newest.candidate):
        names = (item.name, newest.candidate.name)
        reasons.append(_regression(difference_stage(project, ours, newest.report, names, page=False)))
    return tuple(reasons)


def _slices(found: Difference) -> Reason:
    broken = sorted(found.broken, key=lambda part: part.change or 0.0)
    told = [f"{part.field} {part.value} {part.change:+.3f}" for part in broken[:_SHOWN]]
    more = f" and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
    measured = sum(part.change is not None for part in found.slices)
    detail = f"{found.metric}: {', '.join(told)}{more}" if broken else f"{measured} slices of {found.metric} hold"
    return Reason(f"no slice worse than {found.baseline}", not broken, detail, float(len(broken)))


def _regression(found: Difference) -> Reason:
    comparison = next(each for each in found.comparisons if each.metric == found.metric)
    low, high = comparison.interval.low, comparison.interval.high
    detail = f"{found.metric} {comparison.difference:+.3f} [{low:+.3f}, {high:+.3f}], p = {comparison.p_adjusted:.4f}"
    met = found.outcome != "worse"
    return Reason(f"not worse than {found.baseline}", met, detail, 0.0 if met else abs(comparison.difference))


def _is_same(item: Candidate, released: Candidate) -> bool:
    """Tell whether a candidate answers as the release does: the same weights behind the same layers."""
    return bool(item.model.artifact_id) and (item.model.artifact_id, item.engine, item.chain) == (
        released.model.artifact_id,
        released.engine,
        released.chain,
    )
