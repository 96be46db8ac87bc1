"""The dataset card: one page, in HTML and in Markdown, with all a person needs to know before using a dataset."""

import json
from pathlib import Path
from typing import Any

from vivace.data.card.content import card_content
from vivace.data.card.page_text import card_markdown
from vivace.store.files import write_atomic


def write_card_page(dataset: Path, *, root: Path | None = None) -> None:
    """Write card.html and card.md into a dataset folder from its other files; the same files give the same bytes.

    Only report.json and examples.jsonl must be there; what else is missing is left out. `root` is the folder that the
    sources' names are relative to, where licenses are looked for. The page asks for nothing from outside, and a
    browser runs no script in it.
    """
    content = card_content(dataset, root)
    write_atomic(dataset / "card.html", card_html(content))
    write_atomic(dataset / "card.md", card_markdown(content))


def card_html(content: dict[str, Any]) -> str:
    """Return the page of `card_content`; every text in it is escaped."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("vivace.data.card", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["percent"] = percent
    environment.filters["figure"] = figure
    return environment.get_template("card.html.jinja").render(**content) + "\n"


def percent(share: float) -> str:
    """Return a fraction as people read it, such as `12 %`; small ones keep a digit."""
    if 0 < share < 0.001:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"


def figure(value: Any) -> str:
    """Return a number with separators and no more digits than it needs; other values as they are."""
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "–"}[value]
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
