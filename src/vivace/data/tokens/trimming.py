"""Which tokens of a base vocabulary a dataset uses, and what a smaller vocabulary would cost and save."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from vivace.data.tokens.counting import Ids, TokenCounter, hidden_size, token_counts
from vivace.data.tokens.fertility import count_words
from vivace.data.tokens.sample import MAX_ROWS, Sample
from vivace.errors import ConfigError

SIZES = (1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000, 128_000)
MAX_WORDS = 50


def trim_statistics(
    dataset: Path,
    base: Path,
    *,
    vocab_size: int = 8_000,
    width: int | None = None,
    weight_bytes: int = 2,
    max_rows: int = MAX_ROWS,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what share of a dataset a base's vocabulary covers at several sizes, and which words a smaller one splits.

    `width` is the embedding's (config.json's `hidden_size` unless given), `weight_bytes` what one number takes; a
    model whose output layer is not tied to the embedding saves twice as much.
    """
    sample = Sample.draw(dataset, max_rows=max_rows, seed=seed)
    counter = TokenCounter.open(base)
    if vocab_size < 1:
        raise ConfigError(f"A vocabulary of {vocab_size} tokens is too small.")
    words: Counter[str] = Counter()
    occurrences = np.zeros(counter.vocab_size, dtype=np.int64)
    for batch in sample.batches():
        count_words(words, (message.content for example in batch for message in example.messages))
        rendered = counter.encode([counter.render(example) for example in batch])
        occurrences += token_counts(rendered, counter.vocab_size)
    ranking = Ranking(counter.definition, occurrences)
    row_bytes = (width or hidden_size(base) or 0) * weight_bytes
    sizes = sorted({size for size in (*SIZES, vocab_size) if size < counter.vocab_size} | {counter.vocab_size})
    return {
        **sample.told(),
        "algorithm": counter.algorithm,
        "vocab_size": counter.vocab_size,
        "tokens_used": int(np.count_nonzero(occurrences)),
        "curve": [
            {
                "vocab_size": size,
                "share_of_occurrences": round(ranking.coverage(size), 6),
                "bytes_saved": (counter.vocab_size - size) * row_bytes,
            }
            for size in sizes
        ],
        "trimmed": _resplit(words, counter, ranking.keep(vocab_size)),
    }


class Ranking:
    """The tokens of a vocabulary in the order in which they deserve to stay.

    First special tokens and single bytes or letters of the model, then the most frequent ones. A token of a BPE
    vocabulary stays together with the two that it is merged from, or it could never be reached.
    """

    def __init__(self, definition: dict[str, Any], occurrences: Ids) -> None:
        self._occurrences = occurrences
        model = definition["model"]
        self._tokens: dict[str, int] = vocabulary(model)
        self._parents = _parents(model, self._tokens)
        added = [int(token["id"]) for token in definition.get("added_tokens") or ()]
        self._always = {*added, *(number for token, number in self._tokens.items() if is_atom(token))}
        if isinstance(model.get("unk_id"), int):
            self._always.add(model["unk_id"])
        elif model.get("unk_token") in self._tokens:
            self._always.add(self._tokens[model["unk_token"]])
        self._order = [*sorted(self._always), *self._by_frequency()]

    def keep(self, vocab_size: int) -> frozenset[int]:
        """Return the ids that stay in a vocabulary of so many tokens, never fewer than must stay."""
        return frozenset(self._order[: max(vocab_size, len(self._always))])

    def coverage(self, vocab_size: int) -> float:
        """Return the share of token occurrences that a vocabulary of so many tokens still has."""
        total = max(1, int(self._occurrences.sum()))
        return float(self._occurrences[list(self.keep(vocab_size))].sum()) / total

    def _by_frequency(self) -> Iterable[int]:
        seen = set(self._always)
        for number in np.argsort(-self._occurrences, kind="stable"):
            yield from self._with_ancestors(int(number), seen)

    def _with_ancestors(self, number: int, seen: set[int]) -> list[int]:
        """Return a token after the ones it is merged from, leaving out those already `seen`."""
        line: list[int] = []
        waiting = [number]
        while waiting:
            token = waiting.pop()
            if token not in seen:
                seen.add(token)
                line.append(token)
                waiting.extend(self._parents.get(token, ()))
        return line[::-1]


def vocabulary(model: dict[str, Any]) -> dict[str, int]:
    """Return token → id of a model as tokenizer.json describes it."""
    found = model["vocab"]
    if isinstance(found, dict):
        return {str(token): int(number) for token, number in found.items()}
    return {str(token): number for number, (token, _score) in enumerate(found)}


def is_atom(token: str) -> bool:
    """Tell whether a token is a single letter or byte, without which some texts could not be written."""
    return len(token.removeprefix("##")) == 1 or (len(token) == 6 and token.startswith("<0x"))


def trimmed_tokenizer(definition: dict[str, Any], kept: frozenset[int]) -> Tokenizer:
    """Return the tokenizer with only the tokens `kept`, numbered anew in their old order; it adds nothing to a text."""
    model = definition["model"]
    tokens = {token: number for token, number in vocabulary(model).items() if number in kept}
    added = [token for token in definition.get("added_tokens") or () if token["id"] in kept]
    numbers = {old: new for new, old in enumerate(sorted({*tokens.values(), *(token["id"] for token in added)}))}
    smaller = dict(model)
    if isinstance(model["vocab"], dict):
        smaller["vocab"] = {token: numbers[number] for token, number in tokens.items()}
    else:
        smaller["vocab"] = [entry for place, entry in enumerate(model["vocab"]) if place in kept]
    if isinstance(model.get("unk_id"), int):
        smaller["unk_id"] = numbers[model["unk_id"]]
    if "merges" in model:
        smaller["merges"] = [
            [left, right] for left, right in map(_pair, model["merges"]) if {left, right, left + right} <= tokens.keys()
        ]
    told = dict(definition) | {
        "model": smaller,
        "added_tokens": [token | {"id": numbers[token["id"]]} for token in added],
        "post_processor": None,
    }
    return Tokenizer.from_str(json.dumps(told))


def _resplit(words: Counter[str], counter: TokenCounter, kept: frozenset[int]) -> dict[str, Any]:
    """Return which words the trimmed vocabulary writes with other tokens, and which it cannot write."""
    smaller = TokenCounter(trimmed_tokenizer(counter.definition, kept))
    listed = sorted(words)
    before, after = counter.encode(listed), smaller.encode(listed)
    changed = [
        (words[word], word, old, new)
        for word, old, new in zip(listed, before, after, strict=True)
        if len(new) != len(old) or smaller.unknown_id in new
    ]
    changed.sort(key=lambda item: (-item[0], item[1]))
    lost = [item for item in changed if smaller.unknown_id is not None and smaller.unknown_id in item[3]]
    sizes = [sum(words[word] * len(ids) for word, ids in zip(listed, found, strict=True)) for found in (before, after)]
    total = max(1, sum(words.values()))
    return {
        "vocab_size": smaller.vocab_size,
        "different_words": len({form.strip() for form in words}),
        "words_resplit": len(changed),
        "share_of_occurrences": sum(item[0] for item in changed) / total,
        "words_lost": len(lost),
        "growth": round(sizes[1] / max(1, sizes[0]) - 1, 6),
        "resplit": [_told(item, counter, smaller) for item in changed[:MAX_WORDS]],
        "lost": [_told(item, counter, smaller) for item in lost[:MAX_WORDS]],
    }


def _told(
    item: tuple[int, str, Sequence[int], Sequence[int]], counter: TokenCounter, smaller: TokenCounter
) -> dict[str, Any]:
    count, word, before, after = item
    return {
        "word": word.strip(),
        "occurrences": count,
        "before": counter.pieces(before),
        "after": smaller.pieces(after),
    }


def _parents(model: dict[str, Any], tokens: dict[str, int]) -> dict[int, tuple[int, int]]:
    """Return the two tokens that each BPE token is merged from, by the first merge that makes it."""
    found: dict[int, tuple[int, int]] = {}
    for left, right in map(_pair, model.get("merges") or ()):
        if left in tokens and right in tokens and left + right in tokens:
            found.setdefault(tokens[left + right], (tokens[left], tokens[right]))
    return found


def _pair(merge: str | list[str]) -> tuple[str, str]:
    """Older files write a merge as one text with a space."""
    left, right = merge.split(" ") if isinstance(merge, str) else merge
    return left, right
