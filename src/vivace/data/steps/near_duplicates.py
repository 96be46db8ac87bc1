"""Keep one of conversations that are nearly the same."""

from vivace.config.settings import DataSettings
from vivace.data.clusters import jaccard, link_near_duplicates, shingles
from vivace.data.rows import Row
from vivace.data.trail import StepTrail


def clean(rows: list[Row], settings: DataSettings, trail: StepTrail) -> list[Row]:
    """Keep the longest of each cluster, the first of equals.

    A cluster with a held-out row keeps its held-out rows only: the others leave as contamination. A cluster is a
    chain: its ends may be less alike than the threshold.
    """
    if settings.near_duplicate_threshold >= 1:
        return rows
    links = link_near_duplicates([row.example.messages for row in rows], settings.near_duplicate_threshold)
    leaving: dict[int, tuple[str, int]] = {}
    for members in links.groups().values():
        if len(members) == 1:
            continue
        held_out = [place for place in members if rows[place].held_out]
        if len(held_out) > 1:
            trail.changes["held-out near-duplicates kept"] += len(held_out) - 1
        best = held_out[0] if held_out else max(members, key=lambda place: (_length(rows[place]), -place))
        reason = "contamination" if held_out else "near-duplicate"
        leaving.update((place, (reason, best)) for place in members if place != best and not rows[place].held_out)
    for place, (reason, best) in sorted(leaving.items()):
        alike = jaccard(shingles(rows[place].example.messages), shingles(rows[best].example.messages))
        trail.drop(rows[place], reason, f"{alike:.2f} like {rows[best].example.id}")
    return [row for place, row in enumerate(rows) if place not in leaving]


def _length(row: Row) -> int:
    return sum(len(message.content) for message in row.example.messages)
