"""What a dataset costs in tokens, for any number of candidate models side by side."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vivace.data.tokens.counting import TokenCounter, token_counts
from vivace.data.tokens.fertility import Fertility, count_words, expensive_words
from vivace.data.tokens.sample import MAX_ROWS, Sample
from vivace.domain import Example

SPLITS = ("train", "validation", "test")
MAX_CUT_LISTED = 10


def token_statistics(
    dataset: Path, models: Mapping[str, Path], *, max_length: int | None = None, max_rows: int = MAX_ROWS, seed: int = 0
) -> dict[str, Any]:
    """Return what the conversations of a dataset folder cost each model folder in tokens.

    `max_length` is the training's limit; the model's own is taken from its config.json. A dataset of more than
    `max_rows` conversations is sampled.
    """
    sample = Sample.draw(dataset, max_rows=max_rows, seed=seed)
    tallies = {name: _Tally(TokenCounter.open(folder)) for name, folder in models.items()}
    words: Counter[str] = Counter()
    for batch in sample.batches():
        count_words(words, (message.content for example in batch for message in example.messages))
        for tally in tallies.values():
            tally.add(batch)
    told = {name: tally.told(words, max_length) for name, tally in tallies.items()}
    return {**sample.told(), "different_words": len({form.strip() for form in words}), "tokenizers": told}


class _Tally:
    """What one tokenizer made of the conversations so far."""

    def __init__(self, counter: TokenCounter) -> None:
        self._counter = counter
        self._conversations: list[tuple[int, str, str]] = []  # tokens, split, id
        self._answers: list[tuple[int, str, str]] = []
        self._roles: dict[str, Fertility] = {}
        self._languages: dict[str, Fertility] = {}
        self._occurrences = np.zeros(counter.vocab_size, dtype=np.int64)

    def add(self, batch: list[Example]) -> None:
        """Count the conversations of a batch."""
        encoded = self._counter.encode([self._counter.render(example) for example in batch])
        self._conversations += [(len(ids), row.split, row.id) for row, ids in zip(batch, encoded, strict=True)]
        turns = [(example, message) for example in batch for message in example.messages if message.content]
        texts = self._counter.encode([message.content for _example, message in turns])
        self._occurrences += token_counts(texts, self._counter.vocab_size)
        for (example, message), ids in zip(turns, texts, strict=True):
            language = str(example.metadata.get("language") or "not labeled")
            self._roles.setdefault(message.role, Fertility()).add(message.content, len(ids))
            self._languages.setdefault(language, Fertility()).add(message.content, len(ids))
            if message.role == "assistant":
                self._answers.append((len(ids), example.split, example.id))

    def told(self, words: Counter[str], max_length: int | None) -> dict[str, Any]:
        """Return the figures of this tokenizer."""
        counter = self._counter
        total = max(1, int(self._occurrences.sum()))
        partial = sum(
            int(self._occurrences[number])
            for number in np.flatnonzero(self._occurrences)
            if counter.is_part_of_character(int(number))
        )
        unknown = 0 if counter.unknown_id is None else int(self._occurrences[counter.unknown_id])
        limits = {"context_length": counter.context_length, "max_length": max_length}
        return {
            "algorithm": counter.algorithm,
            "vocab_size": counter.vocab_size,
            "tokens_used": int(np.count_nonzero(self._occurrences)),
            "conversations": _by_split(self._conversations),
            "answers": _by_split(self._answers),
            "fertility": {
                "role": {name: found.told() for name, found in sorted(self._roles.items())},
                "language": {name: found.told() for name, found in sorted(self._languages.items())},
            },
            "byte_share": partial / total,
            "unknown_share": unknown / total,
            "expensive_words": expensive_words(words, counter),
            "limits": {name: self._cut(limit) for name, limit in limits.items() if limit is not None},
        }

    def _cut(self, limit: int) -> dict[str, Any]:
        """Return what would be lost if conversations ended after `limit` tokens."""
        longer = sorted(((size, row) for size, _split, row in self._conversations if size > limit), reverse=True)
        total = sum(size for size, _split, _row in self._conversations)
        over = sum(size - limit for size, _row in longer)
        return {
            "limit": limit,
            "conversations_cut": len(longer),
            "share_of_conversations": len(longer) / max(1, len(self._conversations)),
            "tokens_cut": over,
            "share_of_tokens": over / max(1, total),
            "longest": [{"id": row, "tokens": size} for size, row in longer[:MAX_CUT_LISTED]],
        }


def _by_split(sizes: list[tuple[int, str, str]]) -> dict[str, dict[str, float]]:
    chosen = {name: [size for size, split, _row in sizes if split == name] for name in SPLITS}
    chosen["all"] = [size for size, _split, _row in sizes]
    return {name: spread(values) for name, values in chosen.items() if values}


def spread(values: list[int]) -> dict[str, float]:
    """Return count, sum, mean, and the smallest values that half and 95 % of the values do not exceed."""
    p50, p95 = np.percentile(values, [50, 95], method="inverted_cdf")
    return {
        "count": len(values),
        "total": sum(values),
        "mean": round(sum(values) / len(values), 2),
        "p50": int(p50),
        "p95": int(p95),
        "max": max(values),
    }
