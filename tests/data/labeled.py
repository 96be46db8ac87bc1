"""Rows with planted topics, labels and repetitions."""

import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vivace.data.corpus import Corpus
from vivace.data.corpus.corpus import pack
from vivace.data.rows import Row
from vivace.domain import Example, Message

PLANTED = {
    "refund": (("refund", "money back"), ("kettle", "grinder", "voucher", "carafe"), ("waited", "promised", "denied")),
    "delivery": (("parcel", "courier"), ("balcony", "neighbor", "street", "gate"), ("late", "lost", "missing")),
    "account": (("password", "login"), ("email", "phone", "browser", "app"), ("reset", "locked", "forgotten")),
    "coffee": (("espresso", "beans"), ("roast", "crema", "aroma", "blend"), ("bitter", "sour", "weak")),
}
SAID = (
    "My {0} and the {1}: it is {2}, what can you do about the {0}?",
    "Hello, the {0} with the {1} was {2} again",
    "I have a question on {0}, {1} and why they are {2}",
    "{2} {0}! The {1} is {2}, please help with the {0}",
)


def planted(each: int, topics: Sequence[str] = tuple(PLANTED)) -> tuple[list[str], list[str]]:
    """Return texts of planted topics and the topic of each."""
    texts: list[str] = []
    labels: list[str] = []
    for topic in topics:
        firsts, seconds, thirds = PLANTED[topic]
        ways = list(itertools.product(SAID, firsts, seconds, thirds))
        for number in range(each):
            said, *words = ways[(number * 7) % len(ways)]
            texts.append(said.format(*words))
            labels.append(topic)
    return texts, labels


def row(*turns: str, id: str = "r", held_out: bool = False, **metadata: Any) -> Row:
    """Return a row whose customer and agent take turns."""
    roles = ("user", "assistant")
    messages = tuple(Message(roles[place % 2], turn) for place, turn in enumerate(turns))  # type: ignore[arg-type]
    content = hashlib.sha256("\n".join(turns).encode(errors="replace")).hexdigest()
    return Row(Example(id=id, messages=messages, content_hash=content, metadata=metadata), held_out=held_out)


def corpus_of(rows: Sequence[Row], folder: Path) -> Corpus:
    """Return the rows as a corpus whose files are in `folder`."""
    corpus = Corpus(folder, "rows")
    corpus.extend([pack(row) for row in rows])
    return corpus.seal()
