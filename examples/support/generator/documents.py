"""Writes the shop's help pages: hand-written text with the tables filled in from the catalogue."""

import re
from pathlib import Path

from generator import catalogue as shop

SOURCE = Path(__file__).resolve().parent / "documents.txt"


def pages() -> dict[str, str]:
    """Return the finished Markdown of every help page by file name."""
    found: dict[str, str] = {}
    for block in SOURCE.read_text(encoding="utf-8").split("=== ")[1:]:
        name, _, body = block.partition("\n")
        found[name.strip()] = re.sub(r"\{\{([^}]+)\}\}", lambda hit: _fill(hit.group(1)), body.strip()) + "\n"
    return found


def _fill(key: str) -> str:
    kind, _, name = key.partition(":")
    if kind == "price":
        return f"€{shop.PRODUCTS[name].price}"
    if kind == "grind":
        return _table(
            ("Brew", "Start at"),
            [(brew.capitalize() if brew[0].islower() else brew, start) for brew, start in shop.GRIND[name].items()],
        )
    return _tables()[kind]


def _tables() -> dict[str, str]:
    products = shop.PRODUCTS.values()
    return {
        "shipping": _table(
            ("Country", "Working days", "Cost", "Free from"),
            [(c.name.removeprefix("the "), c.days, c.cost, f"€{c.free_from}") for c in shop.COUNTRIES.values()],
        ),
        "warranty": _table(("Product", "Warranty"), [(p.name, f"{p.warranty} years") for p in products]),
        "repairs": _table(("Product", "Fixed price"), [(p.name, f"€{p.repair}") for p in products]),
        "restock": _table(("Product", "Next batch within"), [(p.name, f"{p.restock} weeks") for p in products]),
        "payments": _table(
            ("Code", "What to do"),
            [(code, f"{_plain(meaning)} {_sentence(fix)}") for code, (meaning, fix) in shop.PAYMENT_CODES.items()],
        ),
        "errors": _table(
            ("Code", "Meaning", "What to do"),
            [(code, _plain(meaning), _sentence(fix)) for code, (meaning, _, fix) in shop.ERRORS.items()],
        ),
        "descaling": _table(
            ("Machine", "How", "Minutes"),
            [(name, _sentence(how), str(minutes)) for name, (how, minutes) in shop.DESCALING.items()],
        ),
        "coffees": _table(("Coffee", "Price", "Taste"), [(name, *facts) for name, facts in shop.COFFEES.items()]),
        "parts": _table(
            ("Accessory", "Price", "Fits"), [(part.name, part.price, ", ".join(part.fits)) for part in shop.PARTS]
        ),
    }


def _plain(text: str) -> str:
    return re.sub(r"\[([^|\]]*)\|[^\]]*\]", r"\1", text)


def _sentence(text: str) -> str:
    plain = _plain(text)
    return plain[:1].upper() + plain[1:]


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
