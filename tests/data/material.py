"""Conversations and files to test the data stage with."""

import json
from pathlib import Path
from typing import Any


def chat(*turns: str, first: str = "user", **extra: Any) -> dict[str, Any]:
    """Return a row whose speakers take turns."""
    roles = ("user", "assistant") if first == "user" else ("assistant", "user")
    return {"messages": [{"role": roles[place % 2], "content": turn} for place, turn in enumerate(turns)], **extra}


def write_rows(path: Path, rows: list[Any]) -> Path:
    """Write rows as JSON Lines; a row that is text is written as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


TOPICS = [
    "parcel",
    "invoice",
    "voucher",
    "kettle",
    "grinder",
    "filter",
    "beans",
    "espresso",
    "carafe",
    "gasket",
    "return",
    "refund",
    "delivery",
    "warehouse",
    "account",
    "password",
    "loyalty",
    "coupon",
    "receipt",
    "warranty",
    "repair",
    "courier",
    "signature",
    "neighbor",
    "balcony",
    "holiday",
    "birthday",
    "subscription",
]


def distinct(number: int) -> dict[str, Any]:
    """Return a conversation unlike those of other numbers."""
    words = [f"{TOPICS[(number * step + step) % len(TOPICS)]}{number}" for step in range(1, 9)]
    return chat(
        f"Hello, I have a question about my {' and the '.join(words[:4])}, please.",
        f"Of course, we look after your {' and then the '.join(words[4:])} right away.",
    )
