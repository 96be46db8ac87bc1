"""What was read, what each step did, and what the dataset is made of."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from vivace.data.documents import Document
from vivace.data.reading import FileReading
from vivace.data.rows import is_turn
from vivace.data.trail import Dropped, StepTrail
from vivace.domain import Example, Split
from vivace.store.files import sha256_file

SPLITS: tuple[Split, ...] = ("train", "validation", "test")
CHARS_PER_TOKEN = 4  # English prose in a 30-50k vocabulary; a size to plan with, not a count


class Outcome(Struct):
    """All that a run of `prepare` found out."""

    readings: list[tuple[str, FileReading]]
    trails: list[StepTrail]
    examples: list[Example]
    documents: list[Document]
    document_paths: list[tuple[str, Path]]
    sampled_out: int = 0
    rejected: dict[str, int] = field(default_factory=dict)

    def dropped(self) -> list[Dropped]:
        """Return all dropped rows in the order of the steps."""
        return [drop for trail in self.trails for drop in trail.dropped]


def build_report(outcome: Outcome) -> dict[str, Any]:
    """Return the report as JSON values, the same for the same inputs."""
    dropped = outcome.dropped()
    return {
        "sources": sources(outcome),
        "sampled_out": outcome.sampled_out,
        "rejected": sum(outcome.rejected.values()),
        "dropped": len(dropped),
        "dropped_by_reason": reasons(dropped),
        "steps": [trail.summary() for trail in outcome.trails],
        "splits": {
            name: split_sizes(example for example in outcome.examples if example.split == name) for name in SPLITS
        },
        "intents": intents(outcome.examples),
        "documents": len(outcome.documents),
    }


def facts(outcome: Outcome) -> dict[str, Any]:
    """Return the few figures that the ledger keeps of a dataset."""
    counts = Counter(example.split for example in outcome.examples)
    return {
        "examples": len(outcome.examples),
        **{name: counts[name] for name in SPLITS},
        "documents": len(outcome.documents),
        "dropped": len(outcome.dropped()),
        "rejected": sum(outcome.rejected.values()),
        "sampled_out": outcome.sampled_out,
        "intents": len(intents(outcome.examples)),
        "approximate_tokens": sum(map(approximate_tokens, outcome.examples)),
    }


def sources(outcome: Outcome) -> list[dict[str, Any]]:
    """Return one entry a file: what it is, its hash, and what became of its rows."""
    kept = Counter(_file(example) for example in outcome.examples)
    lost: dict[str, Counter[str]] = {}
    for drop in outcome.dropped():
        lost.setdefault(_file(drop.row), Counter())[drop.step] += 1
    entries: list[dict[str, Any]] = [
        {
            "file": reading.label,
            "used_as": used_as,
            "format": reading.format,
            "size_bytes": reading.path.stat().st_size,
            "sha256": sha256_file(reading.path),
            "conversations": reading.conversations,
            "rejected": len(reading.rejects),
            "lines_read_as_windows_1252": reading.repaired_lines,
            "kept": kept[reading.label],
            "dropped_by_step": dict(sorted(lost.get(reading.label, Counter()).items())),
        }
        for used_as, reading in outcome.readings
    ]
    hashes = {document.path: document.sha256 for document in outcome.documents}
    for name, path in outcome.document_paths:
        entries.append(
            {
                "file": name,
                "used_as": "documents",
                "format": "text",
                "size_bytes": path.stat().st_size,
                "sha256": hashes.get(name) or sha256_file(path),
                "rejected": outcome.rejected.get(name, 0),
            }
        )
    return entries


def reasons(dropped: Iterable[Dropped]) -> dict[str, int]:
    """Return how many rows each step dropped for which reason, most first."""
    counts = Counter(f"{drop.step}: {drop.reason}" for drop in dropped)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def split_sizes(examples: Iterable[Example]) -> dict[str, Any]:
    """Return counts and sizes of the examples of a split."""
    listed = list(examples)
    return {
        "examples": len(listed),
        "turns": sum(is_turn(message) for example in listed for message in example.messages),
        "tool_calls": sum(len(message.tool_calls) for example in listed for message in example.messages),
        "approximate_tokens": sum(map(approximate_tokens, listed)),
        "turns_per_conversation": _quantiles([sum(map(is_turn, example.messages)) for example in listed]),
        "approximate_tokens_per_conversation": _quantiles([approximate_tokens(example) for example in listed]),
        "answer_words": _quantiles([len(example.reference.split()) for example in listed]),
    }


def approximate_tokens(example: Example) -> int:
    """Return about how many tokens a conversation has, at four characters a token."""
    characters = sum(
        len(message.content) + sum(len(call.function.arguments) for call in message.tool_calls)
        for message in example.messages
    )
    return -(-characters // CHARS_PER_TOKEN)


def intents(examples: Iterable[Example]) -> dict[str, dict[str, int]]:
    """Return how many examples of each intent each split has."""
    table: dict[str, dict[str, int]] = {}
    for example in examples:
        intent = example.metadata.get("intent")
        if isinstance(intent, str) and intent:
            table.setdefault(intent, dict.fromkeys(SPLITS, 0))[example.split] += 1
    return dict(sorted(table.items()))


def _file(example: Example) -> str:
    return example.source.rpartition(":")[0]


def _quantiles(values: list[int]) -> dict[str, int]:
    """Return the smallest values that half and 95 % of the values do not exceed, and the largest."""
    if not values:
        return {"p50": 0, "p95": 0, "max": 0}
    ordered = sorted(values)
    return {
        "p50": ordered[(len(ordered) - 1) // 2],
        "p95": ordered[-(-len(ordered) * 95 // 100) - 1],
        "max": ordered[-1],
    }
