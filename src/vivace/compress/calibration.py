"""The texts that a quantizer looks at: the domain's conversations as they are served, or somebody's file."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from msgspec import Struct

from vivace.config.quantize import QuantizeSettings
from vivace.domain import Example
from vivace.errors import ConfigError, DataError
from vivace.models import ChatTokenizer
from vivace.store import read_examples
from vivace.train.batches.rows import encode_examples

SHORTEST = 8  # tokens; a shorter text has next to nothing to look at


class Calibration(Struct, frozen=True):
    """Token ids of some texts, at most the model's context long each; `source` is `domain` or the file's name."""

    rows: tuple[tuple[int, ...], ...]
    source: str

    @property
    def tokens(self) -> int:
        """How many tokens there are in all."""
        return sum(map(len, self.rows))


def read_calibration(
    dataset: Path, folder: Path, settings: QuantizeSettings, system: str, max_length: int, root: Path
) -> Calibration | None:
    """Return what a model in `folder` shall be calibrated on, None where it shall not be.

    `dataset` is a dataset's folder, `root` the project's, from which file:PATH counts. Which texts are taken depends on
    them and the seed alone. Raises `ConfigError` for a file that cannot be read, `DataError` for one without texts.
    """
    if settings.calibration == "none":
        return None
    tokenizer = ChatTokenizer.open(folder)
    longest = min(max_length, tokenizer.context_length)
    if settings.calibration == "domain":
        train = shuffled(read_examples(dataset / "examples.jsonl", "train"), settings.seed)[: settings.examples]
        if not train:
            raise DataError("There is no train conversation to calibrate on.", "Add conversations to [data].")
        rows = [row.ids for row in encode_examples(tokenizer, train, system, longest).rows]
        return Calibration(tuple(rows), "domain")
    path = root / settings.calibration.removeprefix("file:")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"The calibration file {path} cannot be read as text: {error}.") from error
    cut = (tuple(tokenizer.encode(part.strip()))[:longest] for part in text.split("\n\n") if part.strip())
    paragraphs = [ids for ids in cut if len(ids) >= SHORTEST][: settings.examples]
    if not paragraphs:
        raise DataError(
            f"The calibration file {path} has no paragraph of {SHORTEST} tokens.", "Divide texts by empty lines."
        )
    return Calibration(tuple(paragraphs), path.name)


def shuffled(examples: Iterable[Example], seed: int) -> list[Example]:
    """Return examples in an order that depends on their ids and the seed alone: datasets come sorted by source."""
    return sorted(examples, key=lambda example: hashlib.sha256(f"{seed} {example.id}".encode()).digest())
