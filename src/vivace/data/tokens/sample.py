"""A dataset's conversations in batches: all of them, or a seeded sample of a large dataset."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from vivace.domain import Example, Split
from vivace.errors import DataError

MAX_ROWS = 20_000
BATCH_ROWS = 256


class Sample(msgspec.Struct, frozen=True):
    """Which lines of `examples.jsonl` are looked at; `lines` is None when all are."""

    path: Path
    rows: int
    seed: int
    lines: frozenset[int] | None

    @classmethod
    def draw(cls, dataset: Path, *, max_rows: int = MAX_ROWS, seed: int = 0) -> "Sample":
        """Choose at most `max_rows` conversations of a dataset folder; the same file and seed give the same ones."""
        path = dataset / "examples.jsonl"
        if not path.is_file():
            raise DataError(f"There is no dataset in {dataset}.", "Run `vivace data` first.")
        with open(path, "rb") as file:
            rows = sum(1 for _line in file)
        if not rows:
            raise DataError(f"The dataset in {dataset} has no conversations.")
        if rows <= max_rows:
            return cls(path, rows, seed, None)
        return cls(path, rows, seed, frozenset(random.Random(seed).sample(range(rows), max_rows)))

    @property
    def size(self) -> int:
        """How many conversations are looked at."""
        return self.rows if self.lines is None else len(self.lines)

    def told(self) -> dict[str, Any]:
        """Return what a reader of figures must know about the sample."""
        return {"conversations": self.rows, "sampled": self.size, "seed": self.seed}

    def examples(self, splits: frozenset[Split] | None = None) -> Iterator[Example]:
        """Yield the chosen conversations in their order."""
        decoder = msgspec.json.Decoder(Example)
        with open(self.path, "rb") as file:
            for number, line in enumerate(file):
                if self.lines is not None and number not in self.lines:
                    continue
                try:
                    example = decoder.decode(line)
                except msgspec.MsgspecError as error:
                    raise DataError(f"{self.path}, line {number + 1}: {error}.", "Run `vivace data` again.") from error
                if splits is None or example.split in splits:
                    yield example

    def batches(self, splits: frozenset[Split] | None = None) -> Iterator[list[Example]]:
        """Yield the chosen conversations, `BATCH_ROWS` at a time."""
        examples = self.examples(splits)
        while batch := list(islice(examples, BATCH_ROWS)):
            yield batch
