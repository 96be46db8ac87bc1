"""What a user wants, from a tuned encoder: a label with a probability, or none where it is not sure enough."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
from msgspec import Struct, field
from numpy.typing import NDArray

from vivace.errors import ModelError
from vivace.models.encoders.graph import EncoderGraph

FILE = "intents.json"

Told = TypeVar("Told")


class Card(Struct, frozen=True):
    """What a folder's `intents.json` says: labels in the order of the logits, and how they are to be read."""

    labels: tuple[str, ...]
    temperature: float
    threshold: float
    max_length: int
    out_of_scope: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class Guess(Struct, frozen=True):
    """What a text was taken for; `intent` is None where the classifier abstains, `nearest` is then its best guess.

    `probability` is that of `nearest`, calibrated.
    """

    intent: str | None
    probability: float
    nearest: str


class IntentClassifier:
    """Tells intents of texts, without torch; call it from one thread at a time."""

    def __init__(self, card: Card, graph: EncoderGraph) -> None:
        self.card, self._graph = card, graph

    @classmethod
    def open(cls, folder: Path, *, threads: int | None = None) -> "IntentClassifier":
        """Open the folder that `vivace train intents` made; raises `ModelError` for any other."""
        card = read_card(folder / FILE, Card)
        return cls(card, EncoderGraph(folder, card.max_length, threads))

    def classify(self, texts: Sequence[str]) -> list[Guess]:
        """Return a guess for each text; below the threshold of the folder it abstains."""
        shares = self.probabilities(texts)
        best = shares.argmax(axis=1)
        return [
            Guess(self.card.labels[place] if share >= self.card.threshold else None, share, self.card.labels[place])
            for place, share in zip(best.tolist(), shares.max(axis=1).tolist(), strict=True)
        ]

    def probabilities(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the calibrated probability of each label, shape (texts, labels)."""
        if not texts:
            return np.zeros((0, len(self.card.labels)))
        return softmax(self._graph.logits(self._graph.tokenizer.texts(texts)), self.card.temperature)


def softmax(logits: Any, temperature: float = 1.0) -> NDArray[np.float64]:
    """Return probabilities of logits of shape (rows, labels) divided by the temperature."""
    scaled = np.asarray(logits, np.float64) / temperature
    powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    shares: NDArray[np.float64] = powers / powers.sum(axis=1, keepdims=True)
    return shares


def read_card(path: Path, kind: type[Told]) -> Told:
    """Return what a folder's file says of its model."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelError(
            f"{path.parent} holds no {path.name} that can be read.", "Make it with `vivace train`."
        ) from error
