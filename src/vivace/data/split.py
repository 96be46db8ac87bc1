"""Split by conversation and group into train, validation and test: seeded, stable, without leakage."""

import hashlib
import math
from collections import Counter

import msgspec

from vivace.config.settings import DataSettings
from vivace.data.clusters import Links, link_near_duplicates
from vivace.data.rows import Row, is_answer
from vivace.data.steps.exact_duplicates import fingerprint
from vivace.data.trail import StepTrail
from vivace.domain import Split
from vivace.errors import ConfigError

STEP = "split"


class _Unit(msgspec.Struct):
    """Rows that must not be parted, and the number in [0, 1) that decides where they go."""

    rows: list[Row]
    place: float
    intent: str
    split: Split = "train"


def assign(rows: list[Row], settings: DataSettings) -> tuple[list[Row], StepTrail]:
    """Return the rows with their split.

    Held-out rows are the test split; rows of their groups or near-duplicates of them leave as contamination. Without
    held-out rows `test_fraction` decides. Each unit (a group, or conversations nearly the same, or one conversation)
    goes where the hash of its key and the seed says: adding rows moves no others, except that a split or an intent
    with enough conversations is never left without any.
    """
    held_out = any(row.held_out for row in rows)
    test_fraction = 0.0 if held_out or settings.test else settings.test_fraction
    if test_fraction + settings.validation_fraction >= 1:
        raise ConfigError(
            f"validation_fraction {settings.validation_fraction} and test_fraction {test_fraction} leave nothing to "
            "learn from.",
            "Together they must be below 1.",
        )
    trail = StepTrail(STEP, rows_in=len(rows))
    rows = _with_reference(rows, trail)
    units = _units(rows, settings, trail)
    for unit in units:
        if unit.place < test_fraction:
            unit.split = "test"
        elif unit.place < test_fraction + settings.validation_fraction:
            unit.split = "validation"
    _fill(units, {"test": test_fraction, "validation": settings.validation_fraction})
    splits = {row.example.id: unit.split for unit in units for row in unit.rows}
    # Units without a row that stays hold none; held-out rows are in no unit.
    kept = [_placed(row, splits) for row in rows if row.held_out or row.example.id in splits]
    kept = _cap_test(kept, settings, trail)
    trail.changes.update(row.example.split for row in kept)
    trail.rows_out = len(kept)
    return kept, trail


def place_of(key: str, seed: int) -> float:
    """Return a number in [0, 1) that depends on key and seed alone."""
    digest = hashlib.sha256(f"{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:7], "big") / 2**56


def _with_reference(rows: list[Row], trail: StepTrail) -> list[Row]:
    kept: list[Row] = []
    for row in rows:
        messages = row.example.messages
        if messages and is_answer(messages[-1]) and any(message.role == "user" for message in messages):
            kept.append(row)
        else:
            trail.drop(row, "does not end with an answer to a customer")
    return kept


def _units(rows: list[Row], settings: DataSettings, trail: StepTrail) -> list[_Unit]:
    units: list[_Unit] = []
    for members in _links(rows, settings).groups().values():
        unit = [rows[member] for member in members]
        test = next((row for row in unit if row.held_out), None)
        learned = [row for row in unit if not row.held_out]
        if test is not None:
            for row in learned:
                same = f"the same {settings.group_by} as" if row.group and row.group == test.group else "linked to"
                trail.drop(row, "contamination", f"{same} held-out {test.example.id}")
        elif learned:
            units.append(_Unit(learned, place_of(_key(learned), settings.seed), _intent(learned[0])))
    return units


def _links(rows: list[Row], settings: DataSettings) -> Links:
    near = "near_duplicates" not in settings.steps and settings.near_duplicate_threshold < 1
    links = (
        link_near_duplicates([row.example.messages for row in rows], settings.near_duplicate_threshold)
        if near
        else Links(len(rows))
    )
    _join_equal(links, [f"group {row.group}" if row.group else "" for row in rows])
    if "exact_duplicates" not in settings.steps:
        _join_equal(links, [fingerprint(row.example.messages) for row in rows])
    return links


def _join_equal(links: Links, keys: list[str]) -> None:
    first: dict[str, int] = {}
    for place, key in enumerate(keys):
        if key:
            links.join(first.setdefault(key, place), place)


def _key(rows: list[Row]) -> str:
    groups = [row.group for row in rows if row.group]
    return f"group {min(groups)}" if groups else min(row.example.content_hash for row in rows)


def _intent(row: Row) -> str:
    intent = row.example.metadata.get("intent")
    return intent if isinstance(intent, str) else ""


def _fill(units: list[_Unit], fractions: dict[Split, float]) -> None:
    """Give every split at least one unit of the whole and of each intent that is large enough for it."""
    strata: dict[str, list[_Unit]] = {}
    for unit in units:
        if unit.intent:
            strata.setdefault(unit.intent, []).append(unit)
    for split, fraction in fractions.items():
        if fraction <= 0:
            continue
        for stratum in strata.values():
            if len(stratum) >= max(3, math.ceil(1 / fraction)):
                _ensure(stratum, split)
        if len(units) >= 3:
            _ensure(units, split)
    if units:
        _ensure(units, "train")


def _ensure(units: list[_Unit], split: Split) -> None:
    """Move the nearest unit of the largest split into `split`, if that has none."""
    sizes = Counter(unit.split for unit in units)
    if not sizes[split]:
        largest = max(sizes, key=lambda name: (sizes[name], name))
        movable = sorted((unit for unit in units if unit.split == largest), key=lambda unit: unit.place)
        movable[-1 if split == "train" else 0].split = split


def _placed(row: Row, splits: dict[str, Split]) -> Row:
    split: Split = "test" if row.held_out else splits[row.example.id]
    return Row(msgspec.structs.replace(row.example, split=split), row.group, row.held_out)


def _cap_test(rows: list[Row], settings: DataSettings, trail: StepTrail) -> list[Row]:
    test = [row.example for row in rows if row.example.split == "test"]
    ranked = sorted(test, key=lambda example: (place_of(f"test {example.content_hash}", settings.seed), example.id))
    aside = {example.id for example in ranked[settings.max_test_examples :]}
    for row in rows:
        if row.example.id in aside:
            trail.drop(row, "set aside: more than max_test_examples", f"{len(test)} > {settings.max_test_examples}")
    return [row for row in rows if row.example.id not in aside]
