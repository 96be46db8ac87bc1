"""The dataset card: what a person needs to know of a dataset before using it."""

from typing import Any

from vivace.data.rows import render
from vivace.domain import Example

SAMPLES = 3
MAX_INTENTS = 50
_SOURCE_KEYS = ("file", "used_as", "format", "conversations", "kept", "rejected")


def write_card(report: dict[str, Any], examples: list[Example]) -> str:
    """Return the card as Markdown."""
    total = sum(size["examples"] for size in report["splits"].values())
    parts = [
        "# Dataset card",
        f"{total:,} conversations and {report['documents']:,} documents, from {len(report['sources'])} files. "
        f"{report['dropped']:,} conversations were dropped (`dropped.jsonl`), {report['rejected']:,} lines could "
        f"not be read (`rejects.jsonl`), {report['sampled_out']:,} conversations are outside of the sample asked for.",
        "## Sources",
        _table(
            ("file", "used as", "format", "conversations", "kept", "rejected", "SHA-256"),
            [
                (*(source.get(key, "") for key in _SOURCE_KEYS), f"`{source['sha256']}`")
                for source in report["sources"]
                if source["used_as"] != "documents"
            ],
        ),
        *_documents(report),
        "## Composition",
        _table(
            (
                "split",
                "conversations",
                "turns",
                "about so many tokens",
                "longest conversation",
                "answer words p50 / p95",
            ),
            [
                (
                    name,
                    size["examples"],
                    size["turns"],
                    size["approximate_tokens"],
                    size["approximate_tokens_per_conversation"]["max"],
                    f"{size['answer_words']['p50']} / {size['answer_words']['p95']}",
                )
                for name, size in report["splits"].items()
            ],
        ),
        "Tokens are estimated at four characters each.",
    ]
    parts += _intents(report["intents"])
    parts += ["## Dropped", _dropped(report), "## Cleaning", _steps(report)]
    parts += ["## Samples", *(_sample(example) for example in _spread(examples))]
    return "\n\n".join(parts) + "\n"


def _documents(report: dict[str, Any]) -> list[str]:
    sizes = [source["size_bytes"] for source in report["sources"] if source["used_as"] == "documents"]
    if not sizes:
        return []
    return [f"And {len(sizes):,} documents of {sum(sizes) / 1000:,.0f} kB together, listed in `report.json`."]


def _intents(intents: dict[str, dict[str, int]]) -> list[str]:
    if not intents:
        return []
    ordered = sorted(intents.items(), key=lambda item: (-sum(item[1].values()), item[0]))
    rows = [(name, *counts.values()) for name, counts in ordered[:MAX_INTENTS]]
    more = [f"and {len(ordered) - MAX_INTENTS} more in `report.json`."] if len(ordered) > MAX_INTENTS else []
    return ["### Intents", _table(("intent", "train", "validation", "test"), rows), *more]


def _dropped(report: dict[str, Any]) -> str:
    rows = list(report["dropped_by_reason"].items())
    return _table(("step and reason", "conversations"), rows) if rows else "None."


def _steps(report: dict[str, Any]) -> str:
    rows = [
        (
            step["step"],
            step["rows_in"],
            step["rows_out"],
            step["rows_changed"],
            "; ".join(f"{name}: {count:,}" for name, count in step["changes"].items()),
        )
        for step in report["steps"]
    ]
    return _table(("step", "in", "out", "changed", "what was done"), rows)


def _spread(examples: list[Example]) -> list[Example]:
    """Return examples from the beginning, the middle and the end of the training split."""
    train = [example for example in examples if example.split == "train"] or examples
    places = sorted({round(place * (len(train) - 1) / (SAMPLES - 1)) for place in range(SAMPLES)}) if train else []
    return [train[place] for place in places]


def _sample(example: Example) -> str:
    text = render(example.messages, 1500)
    fence = "`" * (max(3, *(len(run) + 1 for run in _backticks(text))))
    return f"`{example.id}`\n\n{fence}text\n{text}\n{fence}"


def _backticks(text: str) -> list[str]:
    return ["", *("`" * len(part) for part in "".join(char if char == "`" else " " for char in text).split())]


def _table(head: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [_line(head), _line(tuple("---" for _ in head)), *map(_line, rows)]
    return "\n".join(lines)


def _line(cells: tuple[Any, ...]) -> str:
    shown = (f"{cell:,}" if isinstance(cell, int) else str(cell) for cell in cells)
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in shown) + " |"
