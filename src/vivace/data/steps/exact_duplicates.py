"""Keep one of conversations that say the same words in the same turns."""

import numpy as np

from vivace.config.data import DataSettings
from vivace.data.corpus import Corpus
from vivace.data.steps import CorpusStep, Sweep
from vivace.data.trail import StepTrail


def _open(_settings: DataSettings) -> Sweep:
    return clean


def clean(corpus: Corpus, trail: StepTrail) -> None:
    """Keep the first of each; a row that a held-out row repeats leaves as contamination, held-out rows stay."""
    columns = corpus.columns
    places = corpus.places()
    _values, first, same = np.unique(columns.fingerprints[places], return_index=True, return_inverse=True)
    held_out: dict[int, int] = {}
    for index in np.flatnonzero(columns.held_out[places]):
        if held_out.setdefault(int(same[index]), int(places[index])) != places[index]:
            trail.changes["held-out duplicates kept"] += 1
    repeated = np.flatnonzero(first[same] != np.arange(len(places)))
    contaminated = np.flatnonzero(np.isin(same, list(held_out)))
    for index in np.union1d(repeated, contaminated):
        place, value = int(places[index]), int(same[index])
        if columns.held_out[place]:
            continue
        if value in held_out:
            corpus.drop(place, trail, "contamination", f"the same as held-out {corpus.row(held_out[value]).example.id}")
        else:
            kept = corpus.row(int(places[first[value]])).example.id
            corpus.drop(place, trail, "exact duplicate", f"the same as {kept}")


STEP = CorpusStep(_open)
