"""How well people would like an answer, from a tuned encoder: one number, for choosing among several answers."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct, field

from vivace.domain import Message
from vivace.models.encoders.graph import EncoderGraph
from vivace.models.encoders.intents import read_card

FILE = "reward.json"


class RewardCard(Struct, frozen=True):
    """What a folder's `reward.json` says: how the raw output becomes a score, and what was measured."""

    scale: float
    offset: float
    max_length: int
    figures: dict[str, Any] = field(default_factory=dict)


class RewardModel:
    """Scores answers, without torch; call it from one thread at a time."""

    def __init__(self, card: RewardCard, graph: EncoderGraph) -> None:
        self.card, self._graph = card, graph

    @classmethod
    def open(cls, folder: Path, *, threads: int | None = None) -> "RewardModel":
        """Open the folder that `vivace train reward` made; raises `ModelError` for any other."""
        card = read_card(folder / FILE, RewardCard)
        return cls(card, EncoderGraph(folder, card.max_length, threads))

    def score(self, messages: Sequence[Message], answers: Sequence[str]) -> list[float]:
        """Return a score for each answer to a conversation, the higher the better.

        The logistic function of the difference of two scores is the probability that people like the first answer
        better; where the model learned from ratings, that of one score is the probability that it is found good.
        """
        if not answers:
            return []
        context = context_text(messages)
        rows = self._graph.tokenizer.pairs([(context, answer) for answer in answers])
        return [self.card.scale * float(value) + self.card.offset for value in self._graph.logits(rows)[:, 0]]


def context_text(messages: Sequence[Message]) -> str:
    """Return a conversation as the text an encoder reads; the system prompt is left out, it is always the same."""
    return "\n".join(
        f"{message.role}: {turn_text(message)}" for message in messages if message.role not in ("system", "developer")
    )


def turn_text(message: Message) -> str:
    """Return a turn's text, its calls of tools as JSON after it."""
    calls = [msgspec.json.encode(call.function).decode() for call in message.tool_calls]
    return "\n".join([*([message.content] if message.content else []), *calls])
