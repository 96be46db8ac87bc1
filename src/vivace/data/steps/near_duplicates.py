"""Keep one of conversations that are nearly the same."""

from functools import partial

from vivace.config.data import DataSettings
from vivace.data.corpus import Corpus
from vivace.data.duplicates.clusters import link_near_duplicates
from vivace.data.steps import CorpusStep, Sweep
from vivace.data.trail import StepTrail


def _open(settings: DataSettings) -> Sweep:
    return partial(clean, threshold=settings.near_duplicate_threshold)


def clean(corpus: Corpus, trail: StepTrail, *, threshold: float) -> None:
    """Keep the longest of each cluster, the first of equals.

    A cluster with a held-out row keeps its held-out rows only: the others leave as contamination. A cluster is a
    chain: its ends may be less alike than the threshold. Preferences are no near-duplicates of one another.
    """
    if threshold >= 1:
        return
    found = link_near_duplicates(corpus, threshold)
    columns = corpus.columns
    leaving: dict[int, tuple[str, int]] = {}
    for members in found.links.clusters():
        held_out = [place for place in members if columns.held_out[place]]
        if len(held_out) > 1:
            trail.changes["held-out near-duplicates kept"] += len(held_out) - 1
        best = held_out[0] if held_out else max(members, key=lambda place: (int(columns.chars[place]), -place))
        reason = "contamination" if held_out else "near-duplicate"
        for place in members:
            # Ratings of turns of one conversation share its beginning, and each tells something.
            told = reason == "near-duplicate" and columns.preferences[place]
            if place != best and not columns.held_out[place] and not told:
                leaving[place] = (reason, best)
    if found.skipped:
        trail.changes["comparisons left out in crowded buckets"] += found.skipped
    for place, (reason, best) in sorted(leaving.items()):
        alike = found.similarity(place, best)
        corpus.drop(place, trail, reason, f"{alike:.2f} like {corpus.row(best).example.id}")


STEP = CorpusStep(_open)
