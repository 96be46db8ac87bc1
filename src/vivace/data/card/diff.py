"""What changed from one version of a dataset to another: rows, splits, composition, settings."""

from collections import Counter
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from vivace.data.card.folder import SPLITS, read_dropped, read_report, source_file
from vivace.data.rows import render
from vivace.domain import Example
from vivace.store.rows import read_examples

MAX_SAMPLES = 3
COUNTED = ("intent", "topic", "language", "sentiment", "outcome")
_DIGEST_BYTES = 16
_ROW = np.dtype(
    [("id", "S16"), ("source", "S16"), ("text", "S16"), ("labels", "S16"), ("split", "u1"), ("place", "u4")]
)
Rows = NDArray[np.void]
Places = list[tuple[int | None, int | None]]
_ENCODER = msgspec.json.Encoder(order="deterministic")


class Change(Struct, frozen=True):
    """A sample of what is different: the row before and after, empty where there is none."""

    id: str
    before: str = ""
    after: str = ""
    note: str = ""


class DatasetDiff(Struct, frozen=True):
    """What is different in `other` from `one`.

    Rows are matched by id, then by the hash of their content as read (a renamed file). `changed_source` were read with
    other content, `changed_cleaning` came out of cleaning with other text, `relabeled` have other metadata. `moves`
    counts rows by (split before, split after), `leaked` held-out rows of `one` that `other` learns from. Counts are
    pairs (before, after) and only those that differ are listed.
    """

    rows: tuple[int, int]
    unchanged: int
    added: int
    removed: int
    renamed: int
    changed_source: int
    changed_cleaning: int
    relabeled: int
    moves: dict[str, int]
    leaked: int
    removed_because: dict[str, int]
    counts: dict[str, dict[str, tuple[int, int]]]
    dropped: dict[str, tuple[int, int]]
    settings: dict[str, tuple[Any, Any]]
    samples: dict[str, list[Change]] = field(default_factory=dict)

    @property
    def warnings(self) -> list[str]:
        """What must not be overlooked, as sentences."""
        if not self.leaked:
            return []
        rows = "1 held-out conversation is" if self.leaked == 1 else f"{self.leaked:,} held-out conversations are"
        return [f"{rows} in the training split of the other version: scores on both do not compare."]


def compare_datasets(one: Path, other: Path) -> DatasetDiff:
    """Return what changed from the dataset folder `one` to `other`; memory is about 250 bytes a row."""
    reports = read_report(one), read_report(other)
    (before, counts_before), (after, counts_after) = _scan(one), _scan(other)
    pairs, renamed = _match(before, after)
    old, new = before[pairs[:, 0]], after[pairs[:, 1]]
    content, text = old["source"] != new["source"], old["text"] != new["text"]
    masks = {
        "changed_source": content,
        "changed_cleaning": ~content & text,
        "relabeled": ~content & ~text & (old["labels"] != new["labels"]),
        "moved": old["split"] != new["split"],
    }
    removed = np.setdiff1d(np.arange(len(before)), pairs[:, 0])
    added = np.setdiff1d(np.arange(len(after)), pairs[:, 1])
    leaked = _leaked(before, after, pairs)
    same = ~(masks["changed_source"] | masks["changed_cleaning"] | masks["relabeled"] | masks["moved"])
    chosen: dict[str, Places] = {name: pairs[mask][:MAX_SAMPLES].tolist() for name, mask in masks.items()}
    for name, places in (("removed", removed), ("leaked", leaked)):
        chosen[name] = [(place, None) for place in places[:MAX_SAMPLES].tolist()]
    chosen["added"] = [(None, place) for place in added[:MAX_SAMPLES].tolist()]
    return DatasetDiff(
        rows=(len(before), len(after)),
        unchanged=int(same.sum()) - int((same & renamed).sum()),
        added=len(added),
        removed=len(removed),
        renamed=int(renamed.sum()),
        changed_source=int(content.sum()),
        changed_cleaning=int(masks["changed_cleaning"].sum()),
        relabeled=int(masks["relabeled"].sum()),
        moves=_moves(old, new),
        leaked=len(leaked),
        removed_because=_removed_because(before[removed], other),
        counts={
            name: found for name in counts_before if (found := _differing(counts_before[name], counts_after[name]))
        },
        dropped=_differing(*(Counter(report.get("dropped_by_reason") or {}) for report in reports)),
        settings=_settings(reports[0].get("settings") or {}, reports[1].get("settings") or {}),
        samples=_samples(one, other, chosen),
    )


def _scan(dataset: Path) -> tuple[Rows, dict[str, Counter[str]]]:
    """Return one compact record a row, in reading order, and the composition."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("split", "file", *COUNTED)}
    blocks: list[Rows] = []
    block: list[tuple[Any, ...]] = []
    for place, example in enumerate(read_examples(dataset / "examples.jsonl")):
        counts["split"][example.split] += 1
        counts["file"][source_file(example.source)] += 1
        for name in COUNTED:
            value = example.metadata.get(name)
            if isinstance(value, str) and value:
                counts[name][value] += 1
        block.append((*_digests(example), SPLITS.index(example.split), place))
        if len(block) == 10_000:
            blocks.append(np.array(block, dtype=_ROW))
            block = []
    blocks.append(np.array(block, dtype=_ROW))
    return np.concatenate(blocks), counts


def _digests(example: Example) -> tuple[bytes, bytes, bytes, bytes]:
    text = _digest(_ENCODER.encode((example.messages, example.rejected, example.tools)))
    labels = _digest(_ENCODER.encode((example.metadata, example.rating)))
    return _digest(example.id.encode()), _digest((example.content_hash or example.id).encode()), text, labels


def _digest(content: bytes) -> bytes:
    return blake2b(content, digest_size=_DIGEST_BYTES).digest()


def _match(before: Rows, after: Rows) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return pairs of places that are the same row, shape (n, 2), and which of them have another id."""
    _ids, left, right = np.intersect1d(before["id"], after["id"], return_indices=True)
    rest_left = np.setdiff1d(np.arange(len(before)), left)
    rest_right = np.setdiff1d(np.arange(len(after)), right)
    _hashes, more_left, more_right = np.intersect1d(
        before["source"][rest_left], after["source"][rest_right], return_indices=True
    )
    pairs = np.column_stack(
        (np.concatenate((left, rest_left[more_left])), np.concatenate((right, rest_right[more_right])))
    )
    renamed = np.arange(len(pairs)) >= len(left)
    order = np.argsort(pairs[:, 0], kind="stable")
    return pairs[order], renamed[order]


def _moves(old: Rows, new: Rows) -> dict[str, int]:
    pairs = Counter(zip(old["split"].tolist(), new["split"].tolist(), strict=True))
    return {f"{SPLITS[a]} → {SPLITS[b]}": count for (a, b), count in sorted(pairs.items()) if a != b}


def _leaked(before: Rows, after: Rows, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the places in `before` of test rows that `after` learns from, as the same row or the same text."""
    test, train = SPLITS.index("test"), SPLITS.index("train")
    moved = pairs[(before["split"][pairs[:, 0]] == test) & (after["split"][pairs[:, 1]] == train), 0]
    held_out = np.flatnonzero(before["split"] == test)
    learned = after["text"][after["split"] == train]
    found: NDArray[np.int64] = np.union1d(moved, held_out[np.isin(before["text"][held_out], learned)])
    return found


def _removed_because(gone: Rows, other: Path) -> dict[str, int]:
    """Return why rows that are gone were dropped in the other version; the rest is not in its sources."""
    left = {bytes(row) for row in gone["id"]}
    reasons: Counter[str] = Counter()
    for drop in read_dropped(other):
        key = np.bytes_(_digest(drop.id.encode())).rstrip(b"\0")
        if key in left:
            left.discard(key)
            reasons[f"{drop.step}: {drop.reason}"] += 1
    if left:
        reasons["not in the sources"] = len(left)
    return dict(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _differing(before: Counter[str], after: Counter[str]) -> dict[str, tuple[int, int]]:
    """Return the counts that differ, the largest differences first."""
    names = {name for name in chain(before, after) if before[name] != after[name]}
    ordered = sorted(names, key=lambda name: (-abs(after[name] - before[name]), name))
    return {name: (before[name], after[name]) for name in ordered}


def _settings(before: dict[str, Any], after: dict[str, Any], prefix: str = "") -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for name in sorted(before.keys() | after.keys()):
        old, new = before.get(name), after.get(name)
        if isinstance(old, dict) and isinstance(new, dict):
            found |= _settings(old, new, f"{prefix}{name}.")
        elif old != new:
            found[prefix + name] = (old, new)
    return found


def _samples(one: Path, other: Path, chosen: dict[str, Places]) -> dict[str, list[Change]]:
    """Return a few rows of each kind of change, read again from the files by their places before and after."""
    pairs = [pair for places in chosen.values() for pair in places]
    old = _rows_at(one, {left for left, _right in pairs if left is not None})
    new = _rows_at(other, {right for _left, right in pairs if right is not None})
    return {
        name: [_change(name, old.get(left), new.get(right)) for left, right in places]
        for name, places in chosen.items()
        if places
    }


def _change(kind: str, old: Example | None, new: Example | None) -> Change:
    row = old or new
    assert row is not None, "a pair of places names a row"
    before, after = (render(found.messages, 600) if found else "" for found in (old, new))
    if old is None or new is None or kind.startswith("changed"):
        return Change(row.id, before, after)
    if kind == "moved":
        return Change(row.id, before, note=f"{old.split} → {new.split}")
    names = sorted(old.metadata.keys() | new.metadata.keys())
    told = [
        f"{name}: {old.metadata.get(name)!r} → {new.metadata.get(name)!r}"
        for name in names
        if old.metadata.get(name) != new.metadata.get(name)
    ]
    return Change(row.id, before, note="; ".join(told))


def _rows_at(dataset: Path, places: set[int]) -> dict[int | None, Example]:
    if not places:
        return {}
    last = max(places)
    found: dict[int | None, Example] = {}
    for place, example in enumerate(read_examples(dataset / "examples.jsonl")):
        if place in places:
            found[place] = example
        if place >= last:
            break
    return found
