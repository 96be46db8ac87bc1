"""Split by conversation and group into train, validation and test: seeded, stable, without leakage."""

import hashlib
import math
from collections import Counter

import numpy as np
from msgspec import Struct

from vivace.config.data import DataSettings
from vivace.data.corpus import Corpus
from vivace.data.duplicates.clusters import Links, link_near_duplicates
from vivace.data.rows import is_answer
from vivace.data.trail import StepTrail
from vivace.domain import Example, Split
from vivace.errors import ConfigError

STEP = "split"
SPLITS: tuple[Split, ...] = ("train", "validation", "test")
OUT = -1
TRAIN, VALIDATION, TEST = range(3)
_NAMES = {
    "train": TRAIN, "training": TRAIN, "validation": VALIDATION, "valid": VALIDATION, "val": VALIDATION,
    "dev": VALIDATION, "test": TEST,
}  # fmt: skip


class _Units(Struct):
    """Rows that must not be parted: for each unit its rows' key in [0, 1), intent and split."""

    members: np.ndarray
    of_member: np.ndarray
    place: np.ndarray
    intents: list[str]
    split: np.ndarray


def assign(corpus: Corpus, settings: DataSettings, trail: StepTrail) -> tuple[np.ndarray, set[int]]:
    """Return the split of each place (an index into `SPLITS`, `OUT` for rows that are out), dropping what cannot stay.

    The second part are places of the test split that are preferences and no examples: `max_test_examples` are enough.

    Held-out rows are the test split; rows of their groups or near-duplicates of them leave as contamination. Without
    held-out rows `test_fraction` decides. Each unit (a group, or conversations nearly the same, or one conversation)
    goes where the hash of its key and the seed says: adding rows moves no others, except that a split or an intent
    with enough conversations is never left without any. Where rows name their validation split, that is obeyed.
    """
    held_out = bool(corpus.columns.held_out[corpus.places()].any())
    test_fraction = 0.0 if held_out or settings.test else settings.test_fraction
    if test_fraction + settings.validation_fraction >= 1:
        raise ConfigError(
            f"validation_fraction {settings.validation_fraction} and test_fraction {test_fraction} leave nothing to "
            "learn from.",
            "Together they must be below 1.",
        )
    trail.rows_in = len(corpus)
    intents, asked, queries = _survey(corpus, settings, trail)
    links = _links(corpus, settings)
    _drop_contamination(corpus, links, settings, trail)
    units = _units(corpus, links, settings, intents)
    if VALIDATION in asked.values():
        validation = {place for place, split in asked.items() if split == VALIDATION}
        chosen = np.isin(units.members, list(validation))
        units.split[np.unique(units.of_member[chosen])] = VALIDATION
        fractions: dict[int, float] = {TEST: test_fraction}
    else:
        fractions = {TEST: test_fraction, VALIDATION: settings.validation_fraction}
        units.split[units.place < test_fraction + settings.validation_fraction] = VALIDATION
    units.split[units.place < test_fraction] = TEST
    _fill(units, fractions)
    splits = np.full(len(corpus.columns.held_out), OUT, dtype=np.int8)
    splits[units.members] = units.split[units.of_member]
    places = corpus.places()
    splits[places[corpus.columns.held_out[places]]] = TEST
    beyond = _cap_test(corpus, splits, queries, settings, trail)
    trail.rows_out = len(corpus)
    return splits, beyond


def named_split(example: Example, field: str) -> int | None:
    """Return the split that a row itself names under `field`, None if it names none."""
    value = example.metadata.get(field) if field else None
    return _NAMES.get(value.strip().lower()) if isinstance(value, str) else None


def place_of(key: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on key and seed alone."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _survey(
    corpus: Corpus, settings: DataSettings, trail: StepTrail
) -> tuple[dict[int, str], dict[int, int], np.ndarray]:
    """Drop rows without a reference; return the intents and splits that rows name, by place, and which are queries."""
    intents: dict[int, str] = {}
    asked: dict[int, int] = {}
    without: list[int] = []
    queries = np.zeros(len(corpus.columns.held_out), dtype=bool)
    known: dict[str, str] = {}
    for place, row in corpus.rows():
        messages = row.example.messages
        ends = messages and (is_answer(messages[-1]) or (row.is_preference and messages[-1].role == "assistant"))
        answered = ends and any(message.role == "user" for message in messages)
        queries[place] = row.is_query
        if not (answered or row.is_query):
            without.append(place)
            continue
        intent = row.example.metadata.get(settings.label.intent_field)
        if isinstance(intent, str) and intent:
            intents[place] = known.setdefault(intent, intent)
        named = named_split(row.example, settings.split_field)
        if named is not None:
            asked[place] = named
    for place in without:
        corpus.drop(place, trail, "does not end with an answer to a customer")
    return intents, asked, queries


def _links(corpus: Corpus, settings: DataSettings) -> Links:
    columns, places = corpus.columns, corpus.places()
    left = "near_duplicates" not in settings.steps or bool(columns.preferences[places].any())
    if left and settings.near_duplicate_threshold < 1:
        links = link_near_duplicates(corpus, settings.near_duplicate_threshold).links
    else:
        links = Links(len(columns.held_out))
        links.join_equal(places, columns.fingerprints[places])
    grouped = places[columns.groups[places] > 0]
    links.join_equal(grouped, columns.groups[grouped])
    return links


def _drop_contamination(corpus: Corpus, links: Links, settings: DataSettings, trail: StepTrail) -> None:
    columns, places = corpus.columns, corpus.places()
    roots = links.roots()
    tests: dict[int, int] = {}
    for place in places[columns.held_out[places]]:
        tests.setdefault(int(roots[place]), int(place))
    learned = places[~columns.held_out[places]]
    for place in map(int, learned[np.isin(roots[learned], list(tests))]):
        test = tests[int(roots[place])]
        same_group = columns.groups[place] and columns.groups[place] == columns.groups[test]
        same = f"the same {settings.group_by} as" if same_group else "linked to"
        corpus.drop(place, trail, "contamination", f"{same} held-out {corpus.row(test).example.id}")


def _units(corpus: Corpus, links: Links, settings: DataSettings, intents: dict[int, str]) -> _Units:
    columns, places = corpus.columns, corpus.places()
    members = places[~columns.held_out[places]]
    roots, of_member = np.unique(links.roots()[members], return_inverse=True)
    hashes = np.ascontiguousarray(columns.hashes[members]).view(">u8").reshape(-1, 2)
    order = np.lexsort((hashes[:, 1], hashes[:, 0], of_member))
    firsts = order[np.searchsorted(of_member[order], np.arange(len(roots)))] if len(roots) else order
    keys = [columns.hashes[members[first]].tobytes().hex() for first in firsts]
    names = columns.group_names
    for member, unit in zip(members, of_member, strict=True):
        if code := int(columns.groups[member]):
            name = f"group {names[code]}"
            keys[unit] = min(keys[unit], name) if keys[unit].startswith("group ") else name
    return _Units(
        members=members,
        of_member=of_member,
        place=np.array([place_of(key, settings.seed) for key in keys]),
        intents=[intents.get(int(root), "") for root in roots],
        split=np.full(len(roots), TRAIN, dtype=np.int8),
    )


def _fill(units: _Units, fractions: dict[int, float]) -> None:
    """Give every split at least one unit of the whole and of each intent that is large enough for it."""
    strata: dict[str, list[int]] = {}
    for unit, intent in enumerate(units.intents):
        if intent:
            strata.setdefault(intent, []).append(unit)
    every = np.arange(len(units.split))
    for split, fraction in fractions.items():
        if fraction <= 0:
            continue
        for stratum in strata.values():
            if len(stratum) >= max(3, math.ceil(1 / fraction)):
                _ensure(units, np.array(stratum), split)
        if len(every) >= 3:
            _ensure(units, every, split)
    if len(every):
        _ensure(units, every, TRAIN)


def _ensure(units: _Units, among: np.ndarray, split: int) -> None:
    """Move the nearest unit of the largest split into `split`, if that has none."""
    sizes = Counter(map(int, units.split[among]))
    if not sizes[split]:
        largest = max(sizes, key=lambda code: (sizes[code], SPLITS[code]))
        movable = among[units.split[among] == largest]
        ordered = movable[np.argsort(units.place[movable], kind="stable")]
        units.split[ordered[-1 if split == TRAIN else 0]] = split


def _cap_test(
    corpus: Corpus, splits: np.ndarray, queries: np.ndarray, settings: DataSettings, trail: StepTrail
) -> set[int]:
    """Set test examples beyond `max_test_examples` aside; return those that stay because they are preferences."""
    test = np.flatnonzero((splits == TEST) & ~queries)
    if len(test) <= settings.max_test_examples:
        return set()
    columns = corpus.columns

    def rank(place: int) -> tuple[float, int]:
        return place_of(f"test {columns.hashes[place].tobytes().hex()}", settings.seed), place

    surplus = sorted(sorted(map(int, test), key=rank)[settings.max_test_examples :])
    beyond = {place for place in surplus if columns.preferences[place]}
    detail = f"{len(test)} > {settings.max_test_examples}"
    for place in surplus:
        if place not in beyond:
            splits[place] = OUT
            corpus.drop(place, trail, "set aside: more than max_test_examples", detail)
    return beyond
