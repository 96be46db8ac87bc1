"""The rows of a dataset that new ones may be made from: training rows, rare classes first."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np

from vivace.config.data import DataSettings
from vivace.data.augment.guard import Guard
from vivace.domain import Example
from vivace.errors import DataError


class Catalog:
    """Where the training rows of `examples.jsonl` stand, in the order they are drawn from.

    Rows that are `synthetic` already are counted and not drawn.
    """

    def __init__(self, path: Path, offsets: np.ndarray, synthetic: int) -> None:
        self._path = path
        self._offsets = offsets
        self.synthetic = synthetic

    def __len__(self) -> int:
        return len(self._offsets)

    def rows(self, places: Sequence[int]) -> list[Example]:
        """Return the rows at these places of the order."""
        decoder = msgspec.json.Decoder(Example)
        found: list[Example] = []
        with open(self._path, "rb") as file:
            for place in places:
                file.seek(int(self._offsets[place]))
                found.append(decoder.decode(file.readline()))
        return found


def read_catalog(path: Path, settings: DataSettings) -> tuple[Catalog, Guard]:
    """Read a dataset once: where its training rows are, and what a new row must differ from.

    Rows of rare classes come first; a class is what `balance.by` says, else the intent, else the topic. Within a class
    the order is drawn by the seed and the id, whatever order the rows stand in.
    """
    guard = Guard()
    offsets: list[int] = []
    classes: list[str] = []
    draws: list[bytes] = []
    codes: dict[str, str] = {}
    synthetic = 0
    for start, example in _lines(path):
        guard.learn(example)
        if example.split != "train":
            continue
        if example.metadata.get("synthetic"):
            synthetic += 1
            continue
        offsets.append(start)
        name = class_of(example, settings)
        classes.append(codes.setdefault(name, name))
        draws.append(_draw(example.id, settings.seed))
    guard.seal()
    counts = Counter(classes)
    order = sorted(range(len(offsets)), key=lambda row: (counts[classes[row]], classes[row], draws[row]))
    return Catalog(path, np.array([offsets[row] for row in order], dtype=np.int64), synthetic), guard


def class_of(example: Example, settings: DataSettings) -> str:
    """Return the class a row is balanced by, "" if it has none."""
    names = [settings.balance.by] if settings.balance.by else [settings.label.intent_field, "intent", "topic"]
    return next((str(example.metadata[name]) for name in names if example.metadata.get(name)), "")


def _draw(name: str, seed: int) -> bytes:
    return hashlib.blake2b(f"augment {seed} {name}".encode(errors="surrogatepass"), digest_size=8).digest()


def _lines(path: Path) -> Iterator[tuple[int, Example]]:
    """Yield where each row starts, in bytes, and the row."""
    if not path.is_file():
        raise DataError(f"There is no dataset at {path}.", "Run `vivace data` first.")
    decoder = msgspec.json.Decoder(Example)
    start = 0
    with open(path, "rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                example = decoder.decode(line)
            except msgspec.MsgspecError as error:
                raise DataError(f"{path}, line {number}: {error}.", "Run `vivace data` again.") from error
            yield start, example
            start += len(line)
