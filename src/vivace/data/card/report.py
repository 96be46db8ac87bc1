"""What was read, what each step did, and what the dataset is made of."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, field

from vivace.data.documents.reading import Document
from vivace.data.reading.conversations import FileReading
from vivace.data.rows import is_turn
from vivace.data.split import SPLITS
from vivace.data.trail import StepTrail
from vivace.domain import Example
from vivace.store.files import sha256_file

CHARS_PER_TOKEN = 4  # English prose in a 30-50k vocabulary; a size to plan with, not a count


class SplitTally(Struct):
    """Counts and sizes of a split, one example at a time; sizes are counted by value."""

    examples: int = 0
    turns: Counter[int] = field(default_factory=Counter)
    tokens: Counter[int] = field(default_factory=Counter)
    answer_words: Counter[int] = field(default_factory=Counter)
    tool_calls: int = 0

    def add(self, example: Example) -> None:
        """Count an example."""
        self.examples += 1
        self.turns[sum(map(is_turn, example.messages))] += 1
        self.tokens[approximate_tokens(example)] += 1
        self.answer_words[len(example.reference.split())] += 1
        self.tool_calls += sum(len(message.tool_calls) for message in example.messages)

    def summary(self) -> dict[str, Any]:
        """Return the counts, and of the sizes the median, the 95th percentile and the largest."""
        return {
            "examples": self.examples,
            "turns": _sum(self.turns),
            "tool_calls": self.tool_calls,
            "approximate_tokens": _sum(self.tokens),
            "turns_per_conversation": _quantiles(self.turns),
            "approximate_tokens_per_conversation": _quantiles(self.tokens),
            "answer_words": _quantiles(self.answer_words),
        }


class Tally(Struct):
    """All that a run of `prepare` counts while it writes."""

    splits: dict[str, SplitTally] = field(default_factory=lambda: {name: SplitTally() for name in SPLITS})
    intents: dict[str, Counter[str]] = field(default_factory=dict)
    kept: Counter[str] = field(default_factory=Counter)
    queries: Counter[str] = field(default_factory=Counter)
    preferences: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    lost: dict[str, Counter[str]] = field(default_factory=dict)

    def keep(self, example: Example) -> None:
        """Count a row that stays, whatever it is good for."""
        self.kept[file_of(example.source)] += 1
        intent = example.metadata.get("intent")
        if isinstance(intent, str) and intent:
            self.intents.setdefault(intent, Counter())[example.split] += 1

    def lose(self, step: str, reason: str, source: str) -> None:
        """Count a dropped row."""
        self.reasons[f"{step}: {reason}"] += 1
        self.lost.setdefault(file_of(source), Counter())[step] += 1

    @property
    def examples(self) -> int:
        """Return how many examples there are to learn from and to be examined on."""
        return sum(split.examples for split in self.splits.values())

    @property
    def dropped_by_reason(self) -> dict[str, int]:
        """Return how many rows each step dropped for which reason, most first."""
        return dict(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0])))


class Outcome(Struct):
    """All that a run of `prepare` found out; `further` are sections of the report that single parts make."""

    readings: list[tuple[str, FileReading]]
    trails: list[StepTrail]
    documents: list[Document]
    document_paths: list[tuple[str, Path]]
    tally: Tally
    sampled_out: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    further: dict[str, Any] = field(default_factory=dict)


def build_report(outcome: Outcome) -> dict[str, Any]:
    """Return the report as JSON values, the same for the same inputs."""
    tally = outcome.tally
    return {
        "sources": sources(outcome),
        "sampled_out": outcome.sampled_out,
        "rejected": sum(outcome.rejected.values()),
        "dropped": tally.reasons.total(),
        "dropped_by_reason": tally.dropped_by_reason,
        "steps": [trail.summary() for trail in outcome.trails],
        "splits": {name: tally.splits[name].summary() for name in SPLITS},
        "queries": _by_split(tally.queries),
        "preferences": _by_split(tally.preferences),
        "intents": {intent: _by_split(counts) for intent, counts in sorted(tally.intents.items())},
        "documents": len(outcome.documents),
        **outcome.further,
    }


def facts(outcome: Outcome) -> dict[str, Any]:
    """Return the few figures that the ledger keeps of a dataset."""
    tally = outcome.tally
    return {
        "examples": tally.examples,
        **{name: tally.splits[name].examples for name in SPLITS},
        "queries": tally.queries.total(),
        "preferences": tally.preferences.total(),
        "documents": len(outcome.documents),
        "dropped": tally.reasons.total(),
        "rejected": sum(outcome.rejected.values()),
        "sampled_out": outcome.sampled_out,
        "intents": len(tally.intents),
        "approximate_tokens": sum(_sum(split.tokens) for split in tally.splits.values()),
        "test_sha256": outcome.further.get("test_sha256", ""),
    }


def sources(outcome: Outcome) -> list[dict[str, Any]]:
    """Return one entry a file: what it is, its hash, and what became of its rows."""
    tally = outcome.tally
    entries: list[dict[str, Any]] = [
        {
            "file": reading.label,
            "used_as": used_as,
            "format": reading.format,
            "size_bytes": reading.path.stat().st_size,
            "sha256": sha256_file(reading.path),
            "conversations": reading.conversations,
            "rejected": outcome.rejected.get(reading.label, 0),
            "lines_read_as_windows_1252": reading.repaired_lines,
            "kept": tally.kept[reading.label],
            "dropped_by_step": dict(sorted(tally.lost.get(reading.label, Counter()).items())),
        }
        for used_as, reading in outcome.readings
    ]
    hashes = {document.path: document.sha256 for document in outcome.documents}
    for name, path in outcome.document_paths:
        entries.append(
            {
                "file": name,
                "used_as": "documents",
                "format": path.suffix.removeprefix(".").lower() or "text",
                "size_bytes": path.stat().st_size,
                "sha256": hashes.get(name) or sha256_file(path),
                "rejected": outcome.rejected.get(name, 0),
            }
        )
    return entries


def approximate_tokens(example: Example) -> int:
    """Return about how many tokens a conversation has, at four characters a token."""
    characters = sum(
        len(message.content) + sum(len(call.function.arguments) for call in message.tool_calls)
        for message in example.messages
    )
    return -(-characters // CHARS_PER_TOKEN)


def file_of(source: str) -> str:
    """Return the file of a `file:line`."""
    return source.rpartition(":")[0]


def _by_split(counts: Mapping[str, int]) -> dict[str, int]:
    return {name: counts.get(name, 0) for name in SPLITS}


def _sum(counts: Counter[int]) -> int:
    return sum(value * count for value, count in counts.items())


def _quantiles(counts: Counter[int]) -> dict[str, int]:
    """Return the smallest values that half and 95 % of the values do not exceed, and the largest."""
    total = counts.total()
    if not total:
        return {"p50": 0, "p95": 0, "max": 0}
    ordered = sorted(counts)
    return {"p50": _at(counts, ordered, (total + 1) // 2), "p95": _at(counts, ordered, -(-total * 95 // 100)),
            "max": ordered[-1]}  # fmt: skip


def _at(counts: Counter[int], ordered: list[int], rank: int) -> int:
    seen = 0
    for value in ordered:
        seen += counts[value]
        if seen >= rank:
            return value
    return ordered[-1]
