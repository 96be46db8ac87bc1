"""The dataset of an update: what is new, with a sample of what was learned before, and nothing that is held out."""

import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from vivace.data.corpus import Corpus
from vivace.data.corpus.corpus import pack
from vivace.data.corpus.sketches import Sketcher
from vivace.data.corpus.spool import batches
from vivace.data.duplicates.leakage import Leak, LeakCheck
from vivace.data.rows import Row
from vivace.domain import Example, Workspace
from vivace.errors import DataError
from vivace.store import read_examples
from vivace.store.files import disk_errors, write_atomic
from vivace.store.rows import encode_line, write_lines

EXAMPLES = "examples.jsonl"
MEMORY = "memory.jsonl"
"""What earlier datasets had: train rows that are not replayed this time, and their validation and test rows."""
SUMMARY = "update.json"
BATCH_ROWS = 512
NEW, HELD, KNOWN, POOL, POOL_HELD, OUT = range(6)


class _Rows(Struct):
    """Rows of both datasets by place: their part, stratum, id, and which conversation they are a version of."""

    corpus: Corpus
    part: np.ndarray
    strata: list[str]
    ids: list[str]
    talks: np.ndarray

    def places(self, *parts: int) -> np.ndarray:
        return np.flatnonzero(np.isin(self.part, parts))

    def same_talk(self, places: np.ndarray, others: np.ndarray) -> np.ndarray:
        """Return those of the places that are another version of one of the others."""
        return places[np.isin(self.talks[places], self.talks[others])]


def write_update(
    new: Path,
    old: Path,
    workspace: Workspace,
    *,
    replay: float,
    labels: Sequence[str] = (),
    threshold: float = 0.8,
    seed: int = 0,
) -> dict[str, Any]:
    """Write the dataset that updates a model from `old` to `new` (folders) to `workspace.out`, and return the facts.

    The train split holds the rows of `new` that were not learned before, and `replay` of the whole is a sample of those
    that were: drawn by a seeded hash, each source file and each of the `labels` in its share. Validation and test are
    those of `new`, without rows that repeat what was learned before. No row that repeats a held-out one, old or new, is
    in the train split: equal or nearly so (Jaccard `threshold`), for test rows half of the 13-grams as well. The rest
    of `old` is in memory.jsonl, from which a later update replays, too. Raises `DataError` when nothing is new.
    """
    rows = _read(new, old, labels, threshold, workspace.scratch)
    with workspace.progress.task("Keeping what is held out apart"):
        spoiled = _leave_spoiled(rows, threshold)
        left_out, replayable = _leave_leaks(rows, threshold)
    fresh = rows.places(NEW)
    if not len(fresh):
        raise DataError(
            "The dataset has no training conversation that the model did not learn before"
            + (f", but {sum(left_out.values()):,} that repeat held-out ones." if left_out else "."),
            "Add new conversations to [data], or train without --from.",
        )
    wanted = round(replay / (1 - replay) * len(fresh))
    chosen = _sample(replayable, rows, wanted, seed)
    if len(chosen) < wanted:
        workspace.progress.say(f"Only {len(chosen):,} of {wanted:,} conversations can be replayed: there are no more.")
    shutil.copytree(new, workspace.out, dirs_exist_ok=True, ignore=shutil.ignore_patterns(EXAMPLES, MEMORY))
    facts = _write(workspace.out, rows, fresh, chosen) | {
        "new": len(fresh),
        "replayed": len(chosen),
        "known": len(rows.places(KNOWN)),
        "left_out": left_out,
        "held_out_learned_before": spoiled,
    }
    rows.corpus.close()
    write_atomic(workspace.out / SUMMARY, json.dumps(facts, indent=2) + "\n")
    return facts


def identity(example: Example) -> str:
    """Return what an example is known by in every dataset: the hash of its content at first reading."""
    return example.content_hash or example.id


def learned_and_held(folder: Path) -> Iterator[Example]:
    """Yield what a dataset and those before it had, each row once; rows that were left out of it are not in it."""
    seen: set[tuple[str, bool]] = set()
    for name in (EXAMPLES, MEMORY):
        if not (folder / name).is_file():
            continue
        for example in read_examples(folder / name):
            key = (identity(example), example.split == "train")
            if key not in seen:
                seen.add(key)
                yield example


def _read(new: Path, old: Path, labels: Sequence[str], threshold: float, scratch: Path) -> _Rows:
    parts: list[int] = []
    strata: list[str] = []
    ids: list[str] = []
    talks: list[bytes] = []
    known: set[str] = set()
    sketcher = Sketcher(threshold)
    corpus = Corpus(scratch, "update")

    def placed() -> Iterator[Row]:
        for example in learned_and_held(old):
            parts.append(POOL if example.split == "train" else POOL_HELD)
            known.update([identity(example)] if example.split == "train" else [])
            yield note(example)
        for example in read_examples(new / EXAMPLES):
            learned = identity(example) in known
            parts.append(HELD if example.split != "train" else KNOWN if learned else NEW)
            yield note(example)

    def note(example: Example) -> Row:
        strata.append("\n".join([example.source.rpartition(":")[0], *map(str, map(example.metadata.get, labels))]))
        ids.append(example.id)
        talks.append(_talk(example))
        return Row(msgspec.structs.replace(example, content_hash=identity(example)))

    for batch in batches(placed(), BATCH_ROWS):
        corpus.extend([pack(row) for row in batch], sketcher.sketch(batch))
    return _Rows(corpus.seal(), np.array(parts, dtype=np.int8), strata, ids, np.array(talks, dtype="V16"))


def _talk(example: Example) -> bytes:
    """Return what a corrected version of a conversation has in common with it: its id and how it begins.

    The id alone is not enough: exports that are numbered anew use the numbers for other conversations.
    """
    first = next((message.content for message in example.messages if message.role == "user"), "")
    return hashlib.blake2b(
        f"{example.id.partition('~')[0]}\n{first}".encode(errors="surrogatepass"), digest_size=16
    ).digest()


def _leave_spoiled(rows: _Rows, threshold: float) -> int:
    """Take rows that repeat what was learned before out of the new held-out ones, and return how many."""
    before = len(rows.places(HELD))
    rows.part[rows.same_talk(rows.places(HELD), rows.places(POOL))] = OUT
    while leaks := _leaks(rows, _checks(rows, threshold, HELD), rows.places(POOL)):
        rows.part[[leak.test for leak in leaks]] = OUT
    return before - len(rows.places(HELD))


def _leave_leaks(rows: _Rows, threshold: float) -> tuple[dict[str, int], np.ndarray]:
    """Take new rows that repeat held-out ones out, and return how many by kind, and the old rows that repeat none."""
    checks = _checks(rows, threshold, HELD, POOL_HELD)
    kinds = {int(place): "id" for place in rows.same_talk(rows.places(NEW, POOL), rows.places(HELD, POOL_HELD))}
    kinds |= {leak.learned: leak.kind for leak in _leaks(rows, checks, rows.places(NEW, POOL))}
    counts = Counter(kind for place, kind in kinds.items() if rows.part[place] == NEW)
    # Of a conversation that was corrected, the version that was learned before is not replayed.
    corrected = rows.same_talk(rows.places(POOL), rows.places(NEW))
    leaking = np.array(list(kinds), dtype=np.int64)
    replayable = np.setdiff1d(rows.places(POOL), np.concatenate([leaking, corrected]))
    rows.part[leaking[rows.part[leaking] == NEW]] = OUT
    left = _leaks(rows, checks, np.concatenate([rows.places(NEW), replayable]))
    if left:
        raise DataError(f"{len(left):,} conversations to learn from still repeat held-out ones.")
    return dict(sorted(counts.items())), replayable


def _checks(rows: _Rows, threshold: float, *parts: int) -> list[LeakCheck]:
    """Return the checks against validation rows and against test rows of these parts."""
    places = rows.places(*parts)
    is_test = np.array([rows.corpus.row(int(place)).example.split == "test" for place in places], dtype=bool)
    return [LeakCheck(rows.corpus, chosen, threshold) for chosen in (places[~is_test], places[is_test])]


def _leaks(rows: _Rows, checks: list[LeakCheck], learned: np.ndarray) -> list[Leak]:
    """Return what repeats held-out rows; validation rows may share phrases, as within one dataset."""
    of_validation, of_test = (check.find(learned) for check in checks)
    found = {leak.learned: leak for leak in of_validation if leak.kind != "ngram_13"}
    return list((found | {leak.learned: leak for leak in of_test}).values())


def _sample(places: np.ndarray, rows: _Rows, count: int, seed: int) -> np.ndarray:
    """Return `count` places, each stratum in its share (largest remainders), those whose hashes are the smallest."""
    if count >= len(places):
        return places
    groups: dict[str, list[int]] = {}
    for place in map(int, places):
        groups.setdefault(rows.strata[place], []).append(place)

    def rank(name: str) -> bytes:
        return hashlib.sha256(f"vivace-replay {seed} {name}".encode()).digest()

    shares = {name: count * len(members) / len(places) for name, members in groups.items()}
    quotas = {name: int(share) for name, share in shares.items()}
    by_remainder = sorted(groups, key=lambda name: (quotas[name] - shares[name], rank(name)))
    for name in by_remainder[: count - sum(quotas.values())]:
        quotas[name] += 1
    chosen = [
        place
        for name, members in groups.items()
        for place in sorted(members, key=lambda place: rank(rows.ids[place]))[: quotas[name]]
    ]
    return np.array(sorted(chosen), dtype=np.int64)


def _write(out: Path, rows: _Rows, fresh: np.ndarray, replayed: np.ndarray) -> dict[str, Any]:
    """Write the rows to learn and to hold out, and beside them those to remember; return counts and the test's hash."""
    counts: Counter[str] = Counter()
    digest = hashlib.sha256()
    order: Iterable[int] = map(int, (*fresh, *replayed, *rows.places(HELD)))
    with disk_errors(out), open(out / EXAMPLES, "wb") as file:
        for place in order:
            example = rows.corpus.row(place).example
            line = encode_line(example)
            counts[example.split] += 1
            if example.split == "test":
                digest.update(line)
            file.write(line)
    rest = np.setdiff1d(rows.places(POOL, POOL_HELD), replayed)
    write_lines(out / MEMORY, (encode_line(rows.corpus.row(int(place)).example) for place in rest))
    return {
        "examples": counts.total(),
        **{split: counts[split] for split in ("train", "validation", "test")},
        "old_held_out": len(rows.places(POOL_HELD)),
        "test_sha256": digest.hexdigest(),
    }
