"""Keep one of conversations that say the same words in the same turns."""

import hashlib

from vivace.config.settings import DataSettings
from vivace.data.clusters import words_of
from vivace.data.rows import Row
from vivace.data.trail import StepTrail
from vivace.domain import Message


def clean(rows: list[Row], settings: DataSettings, trail: StepTrail) -> list[Row]:
    """Keep the first of each; a row that a held-out row repeats leaves as contamination, held-out rows stay."""
    held_out: dict[str, Row] = {}
    fingerprints = [fingerprint(row.example.messages) for row in rows]
    for row, print_ in zip(rows, fingerprints, strict=True):
        if row.held_out and held_out.setdefault(print_, row) is not row:
            trail.changes["held-out duplicates kept"] += 1
    first: dict[str, Row] = {}
    kept: list[Row] = []
    for row, print_ in zip(rows, fingerprints, strict=True):
        if row.held_out:
            kept.append(row)
        elif print_ in held_out:
            trail.drop(row, "contamination", f"the same as held-out {held_out[print_].example.id}")
        elif print_ in first:
            trail.drop(row, "exact duplicate", f"the same as {first[print_].example.id}")
        else:
            first[print_] = row
            kept.append(row)
    return kept


def fingerprint(messages: tuple[Message, ...]) -> str:
    """Return the hash of who said which words; case, punctuation, system prompt and tool traffic do not count."""
    digest = hashlib.sha256()
    for role, words in words_of(messages):
        digest.update(f"{role} {' '.join(words)}\n".encode())
    return digest.hexdigest()
